import { describe, expect, it } from 'vitest';
import {
  ALL_PAGES,
  attach,
  bench,
  codeOf,
  HWPT,
  map,
  nest,
  paging,
  reach,
  reachAts,
  SVA_DEVICE,
  s1Blob,
  s1Invalidate,
  stampedPage,
  unmap,
  userArray,
} from './fixture.ts';

const GOOD = s1Invalidate(0x7000n, 1n);

describe('IOMMU_HWPT_INVALIDATE', () => {
  it.each([
    ['unknown flag', s1Invalidate(0x7000n, 1n, 2), 'EOPNOTSUPP'],
    ['reserved bytes', s1Invalidate(0x7000n, 1n, 0, 1), 'EOPNOTSUPP'],
    ['flag before alignment', s1Invalidate(0x7001n, 1n, 2), 'EOPNOTSUPP'],
    ['misaligned address', s1Invalidate(0x7800n, 1n), 'EINVAL'],
    ['everything from an address', s1Invalidate(0x7000n, ALL_PAGES), 'EINVAL'],
  ])('%s: stops there; earlier entries are done and counted', (_name, bad, code) => {
    const at = bench({}, [SVA_DEVICE]);
    const { guest, table, nested } = nest(at);
    const pages = [guest.page(), guest.page(), guest.page()] as const;
    table.map(7, pages[0]);
    table.map(8, pages[0]);
    expect([reach(at.device, 7), reachAts(at.device, 8)]).toEqual(
      [0, 0].map(() => guest.hostFrame(pages[0])),
    );
    table.map(7, pages[1]);
    table.map(8, pages[2]);
    const array = userArray(0, [GOOD, bad, s1Invalidate(0x8000n, 1n)]);
    expect(codeOf(() => nested.invalidate?.(array))).toBe(code);
    expect(array.done).toBe(1);
    expect(reach(at.device, 7)).toBe(guest.hostFrame(pages[1]));
    expect(reachAts(at.device, 8)).toBe(guest.hostFrame(pages[0]));
  });

  it('another data type is EINVAL with nothing done; no entries is fine', () => {
    const { nested } = nest(bench());
    const array = userArray(1, [GOOD]);
    expect(codeOf(() => nested.invalidate?.(array))).toBe('EINVAL');
    expect(array.done).toBe(0);
    const empty = userArray(0, []);
    expect(codeOf(() => nested.invalidate?.(empty))).toBe('no error');
    expect(empty.done).toBe(0);
  });

  it('a range reaches every page in it, and hostile ranges end', () => {
    const at = bench({}, [SVA_DEVICE]);
    const { guest, table, nested } = nest(at);
    const [before, after] = [guest.page(), guest.page()];
    for (const [addr, npages] of [
      [0x3000n, 9n],
      [0n, 2n ** 63n],
      [0n, 2n ** 64n - 2n],
      [0n, 2n ** 52n],
    ] as const) {
      for (let page = 3; page < 12; page++) table.map(page, before);
      nested.invalidate?.(userArray(0, [s1Invalidate(0n, ALL_PAGES)]));
      for (let page = 3; page < 12; page++) {
        expect(reach(at.device, page)).toBe(guest.hostFrame(before));
        expect(reachAts(at.device, page)).toBe(guest.hostFrame(before));
        table.map(page, after);
      }
      nested.invalidate?.(userArray(0, [s1Invalidate(addr, npages)]));
      for (let page = 3; page < 12; page++) {
        expect(reach(at.device, page)).toBe(guest.hostFrame(after));
        expect(reachAts(at.device, page)).toBe(guest.hostFrame(after));
      }
    }
    expect(
      codeOf(() => nested.invalidate?.(userArray(0, [s1Invalidate(2n ** 64n - 4096n, 2n ** 63n)]))),
    ).toBe('no error');
    expect(codeOf(() => nested.invalidate?.(userArray(0, [s1Invalidate(0n, 0n)])))).toBe(
      'no error',
    );
  });

  it('thousands of entries go through the ring', () => {
    const at = bench({}, [SVA_DEVICE]);
    const { guest, table, nested } = nest(at);
    const [before, after] = [guest.page(), guest.page()];
    table.map(7, before);
    expect(reach(at.device, 7)).toBe(guest.hostFrame(before));
    table.map(7, after);
    const entries = Array.from({ length: 3000 }, (_, i) => s1Invalidate(BigInt(i) << 12n, 1n));
    const array = userArray(0, entries);
    nested.invalidate?.(array);
    expect(array.done).toBe(3000);
    expect(reach(at.device, 7)).toBe(guest.hostFrame(after));
  });

  it('one nested domain on several PASIDs and devices: all of them forget', () => {
    const at = bench({}, [SVA_DEVICE, { ...SVA_DEVICE, rid: '00:06.0' }]);
    const [a, b] = at.devices as [typeof at.device, typeof at.device];
    const { guest, table, nested } = nest(at, 5, a);
    attach(at, nested, 6, a);
    attach(at, nested, -1, b);
    const [before, after] = [guest.page(), guest.page()];
    table.map(7, before);
    const all = () => [
      reach(a, 7, 5),
      reach(a, 7, 6),
      reach(b, 7),
      reachAts(a, 7, 6),
      reachAts(b, 7),
    ];
    expect(new Set(all())).toEqual(new Set([guest.hostFrame(before)]));
    table.map(7, after);
    nested.invalidate?.(userArray(0, [GOOD]));
    expect(new Set(all())).toEqual(new Set([guest.hostFrame(after)]));
    attach(at, at.unit.blocking, 5, a);
    table.map(7, before);
    nested.invalidate?.(userArray(0, [GOOD]));
    expect(all()).toEqual([-1, ...[1, 2, 3, 4].map(() => guest.hostFrame(before))]);
  });
});

describe('a device that goes from one nested domain to another over the same parent', () => {
  it('still hears of changes of the parent, in its own TLB too', () => {
    const at = bench({}, [SVA_DEVICE]);
    const { guest, table, parent } = nest(at);
    const gfn = guest.page();
    table.map(7, gfn);
    const other = at.unit.nesting?.allocNested(at.device, parent, 0, s1Blob(table.rootGpa));
    if (!other) throw new Error('no nesting');
    attach(at, other);
    expect([reach(at.device, 7), reachAts(at.device, 7)]).toEqual(
      [0, 0].map(() => guest.hostFrame(gfn)),
    );
    unmap(parent, gfn);
    expect([reach(at.device, 7), reachAts(at.device, 7)]).toEqual([-1, -1]);
  });
});

describe('VT-d 3.8: isolation of a guest', () => {
  it('reaches only what the host mapped: outside GPAs fault, whatever its tables say', () => {
    const at = bench({}, [SVA_DEVICE]);
    const { guest, table } = nest(at);
    const secret = stampedPage(at.machine);
    for (const target of [secret, 0, 2 ** 27, guest.hostFrame(table.root)]) {
      table.map(9, target);
      expect(reach(at.device, 9)).toBe(-1);
    }
  });

  it('its root may lie anywhere, mapped or not', () => {
    const at = bench({}, [SVA_DEVICE]);
    const parent = paging(at, HWPT.NEST_PARENT);
    const { table, guest } = nest(at, -1, at.device, parent);
    const gfn = guest.page();
    table.map(7, gfn);
    expect(reach(at.device, 7)).toBe(guest.hostFrame(gfn));
    unmap(parent, table.root);
    expect(reach(at.device, 7)).toBe(-1);
    map(parent, table.root, guest.hostFrame(table.root));
    expect(reach(at.device, 7)).toBe(guest.hostFrame(gfn));
  });

  it('two guests over one parent see one address space through two tables', () => {
    const at = bench({}, [SVA_DEVICE]);
    const first = nest(at, 5);
    const second = at.unit.nesting;
    const gfn = first.guest.page();
    first.table.map(7, gfn);
    const other = paging(at, HWPT.NEST_PARENT);
    const third = nest(at, 6, at.device, other);
    expect(second).toBeDefined();
    expect(reach(at.device, 7, 5)).toBe(first.guest.hostFrame(gfn));
    expect(reach(at.device, 7, 6)).toBe(-1);
    const mine = third.guest.page();
    third.table.map(7, mine);
    expect(reach(at.device, 7, 6)).toBe(third.guest.hostFrame(mine));
  });

  it('supervisor pages need SRE and a privileged request', () => {
    const at = bench({}, [SVA_DEVICE]);
    const { guest, table } = nest(at, 5);
    table.map(7, guest.page(), 3);
    expect(reach(at.device, 7, 5)).toBe(-1);
  });
});
