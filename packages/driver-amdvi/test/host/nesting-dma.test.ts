/** Nested domains by DMA: guest tables over the parent, and who hears of what goes wrong. */
import { describe, expect, it } from 'vitest';
import {
  attach,
  bench,
  FULL,
  GUEST_RID,
  GuestTable,
  HWPT,
  map,
  nest,
  reach,
  reachAts,
  SVA_DEVICE,
  stampedPage,
  unmap,
  writes,
} from './fixture.ts';
import { guestCommands, guestDte } from './guests.ts';

const setup = (pasid = 0) => {
  const at = bench(FULL, [SVA_DEVICE]);
  const nested = nest(at, { pasid });
  return { at, ...nested };
};

/** Commands of the guest. */
const pages = (pasid: number, frame: number): readonly [bigint, bigint] => [
  0x3000_0042_0000_0000n | BigInt(pasid),
  (BigInt(frame) << 12n) | 4n,
];
const deviceTlb = (pasid: number, frame: number): readonly [bigint, bigint] => [
  0x4000_0000_2000_0000n | BigInt(GUEST_RID) | (BigInt(pasid) << 48n),
  (BigInt(frame) << 12n) | (pasid === 0 ? 0n : 4n),
];

describe('AMD IOMMU 2.2.6: nested translation', () => {
  it.each([
    ['without PASID', 0, undefined],
    ['with PASID', 7, 7],
  ])('%s: through the guest table and the parent', (_, pasid, tag) => {
    const { at, guest, table } = setup(pasid);
    const gfn = guest.page();
    table.map(7, gfn);
    expect(reach(at.device, 7, tag)).toBe(guest.hostFrame(gfn));
    expect(reachAts(at.device, 7, tag)).toBe(guest.hostFrame(gfn));
    expect(reach(at.device, 8, tag)).toBe(-1);
    expect(reach(at.device, 7, 9)).toBe(-1);
  });

  it('GIoV=0: requests without PASID are guest physical', () => {
    const { at, guest, table, backend } = setup(7);
    const [q0 = 0n, ...rest] = table.dte();
    const nested = backend.allocNested(at.device, 0, guestDte([q0 & ~(1n << 54n), ...rest]));
    attach(at, nested);
    const gfn = guest.page();
    table.map(7, gfn);
    expect([reach(at.device, gfn), reach(at.device, 7, 7)]).toEqual([
      guest.hostFrame(gfn),
      guest.hostFrame(gfn),
    ]);
  });

  it.each([
    ['V=0: passes through the parent', [0n, 0x42n, 0n, 0n], true, true],
    ['GV=0, read only', [3n | (1n << 61n), 0x42n, 0n, 0n], true, false],
    ['TV=0', [1n, 0x42n, 0n, 0n], false, false],
  ] as const)('guest entry %s', (_, dte, reads, writable) => {
    const { at, guest, backend } = setup();
    attach(at, backend.allocNested(at.device, 0, guestDte(dte)));
    const gfn = guest.page();
    expect(reach(at.device, gfn)).toBe(reads ? guest.hostFrame(gfn) : -1);
    expect(writes(at.device, gfn)).toBe(writable);
  });

  it('the guest changes its table: stale until it says so, in the unit and in the device', () => {
    const { at, guest, table, backend } = setup(7);
    const [a, b] = [guest.page(), guest.page()];
    table.map(7, a);
    const seen = () => [reach(at.device, 7, 7), reachAts(at.device, 7, 7)];
    expect(seen()).toEqual([guest.hostFrame(a), guest.hostFrame(a)]);
    table.map(7, b);
    expect(seen()).toEqual([guest.hostFrame(a), guest.hostFrame(a)]);
    backend.invalidate(guestCommands([pages(7, 7)]));
    expect(seen()).toEqual([guest.hostFrame(b), guest.hostFrame(a)]);
    backend.invalidate(guestCommands([deviceTlb(7, 7)]));
    expect(seen()).toEqual([guest.hostFrame(b), guest.hostFrame(b)]);
  });

  it('the host takes a page away: nobody sees it any more, under any PASID', () => {
    const { at, guest, table, parent } = setup(7);
    const gfn = guest.page();
    table.map(7, gfn);
    expect([reach(at.device, 7, 7), reachAts(at.device, 7, 7)]).toEqual(
      Array(2).fill(guest.hostFrame(gfn)),
    );
    unmap(parent, gfn);
    expect([reach(at.device, 7, 7), reachAts(at.device, 7, 7)]).toEqual([-1, -1]);
  });

  it('two guests with equal DomainIDs and PASIDs do not meet', () => {
    const at = bench(FULL, [SVA_DEVICE, { ...SVA_DEVICE, rid: '00:06.0' }]);
    const guests = at.devices.map((on) => ({ on, ...nest(at, { pasid: 7, on }) }));
    const expected = guests.map(({ guest, table }) => {
      const gfn = guest.page();
      table.map(7, gfn);
      return guest.hostFrame(gfn);
    });
    expect(guests.map(({ on }) => reach(on, 7, 7))).toEqual(expected);
    expect(guests.map(({ on }) => reach(on, 7, 7))).toEqual(expected);
    const [first, second] = guests;
    first?.table.clear(7);
    second?.table.clear(7);
    first?.backend.invalidate(guestCommands([pages(7, 7)]));
    expect(guests.map(({ on }) => reach(on, 7, 7))).toEqual([-1, expected[1]]);
  });

  it('the parent grows under the guest; a nested device is dirty tracked', () => {
    const at = bench(FULL, [SVA_DEVICE]);
    const flags = HWPT.NEST_PARENT | HWPT.DIRTY_TRACKING;
    const { guest, table, parent } = nest(at, { flags });
    const gfn = guest.page();
    table.map(7, gfn);
    expect(reach(at.device, 7)).toBe(guest.hostFrame(gfn));
    const high = 2 ** 35;
    const frame = stampedPage(at.machine);
    map(parent, high, frame);
    table.map(8, high);
    expect(reach(at.device, 8)).toBe(frame);
    parent.dirty?.setTracking(true);
    const read = () => {
      let dirty = false;
      const visit = (start: number, count: number) => {
        if (start <= gfn && gfn < start + count) dirty = true;
      };
      parent.dirty?.readAndClear(0, 2 ** 36, visit, true);
      return dirty;
    };
    read();
    expect(writes(at.device, 7)).toBe(true);
    expect([read(), read()]).toEqual([true, false]);
    expect(writes(at.device, 7)).toBe(true);
    expect(read()).toBe(true);
  });

  it('nested to nested, to the parent, to another guest table, to blocked', () => {
    const { at, guest, table, parent, backend, nested } = setup();
    const [one, two] = [guest.page(), guest.page()];
    table.map(7, one);
    expect(reach(at.device, 7)).toBe(guest.hostFrame(one));
    const other = new GuestTable(guest);
    other.map(7, two);
    attach(at, backend.allocNested(at.device, 0, guestDte(other.dte())));
    expect(reach(at.device, 7)).toBe(guest.hostFrame(two));
    attach(at, parent);
    expect(reach(at.device, one)).toBe(guest.hostFrame(one));
    attach(at, nested);
    expect(reach(at.device, 7)).toBe(guest.hostFrame(one));
    attach(at, at.unit.blocking);
    expect(reach(at.device, 7)).toBe(-1);
  });
});

describe('events of nested devices', () => {
  const faulty = () => {
    const all = setup(7);
    const host: number[] = [];
    all.at.machine.onFault(({ addressPfn }) => host.push(addressPfn));
    return { ...all, host };
  };

  it('a fault of the guest table: the guest hears of it by its own DeviceID, the host does not', () => {
    const { at, events, host } = faulty();
    expect(reach(at.device, 9, 7)).toBe(-1);
    expect(events.got).toEqual([[0x414d_4401, '2001000700000021 0000000000009000']]);
    expect(host).toEqual([]);
  });

  it('a fault below the guest is the host alone', () => {
    const { at, events, host, table } = faulty();
    table.map(9, 0x7777);
    expect(reach(at.device, 9, 7)).toBe(-1);
    expect(events.got).toEqual([]);
    expect(host).toEqual([0x7777]);
  });

  it('a guest that does not listen, or a device that it does not know: the host hears', () => {
    const { at, events, host, backend } = faulty();
    events.listening = false;
    reach(at.device, 9, 7);
    events.listening = true;
    backend.vdeviceDestroy(at.device, BigInt(GUEST_RID));
    reach(at.device, 10, 7);
    expect([events.got, host]).toEqual([[], [9, 10]]);
  });

  it('a page request that the guest does not allow: its event, PASID and tag as they are', () => {
    const { at, events, host } = faulty();
    const answers: number[] = [];
    const page = { iova: 0x9000n, write: false };
    at.device.requestPages([page], { pasid: 7 }, (code) => answers.push(code));
    expect(answers).toEqual([1]);
    const [[, words = ''] = []] = events.got;
    expect(words).toMatch(/^92...00000070021 0000000000009000$|^92.*0021 0000000000009000$/);
    expect(host).toEqual([]);
  });

  it('a device that the guest blocks: its event', () => {
    const { at, events, host, backend } = faulty();
    attach(at, backend.allocNested(at.device, 0, guestDte([1n, 0x42n, 0n, 0n])));
    reach(at.device, 9);
    expect(events.got.map(([, words]) => words)).toEqual(['2000004200000021 0000000000009000']);
    expect(host).toEqual([]);
  });
});
