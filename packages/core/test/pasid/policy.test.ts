/** Guest PASIDs to PASIDs on the wire; step names S000 and S004 are those of the old proposals. */
import { describe, expect, it } from 'vitest';
import {
  ENQCMD_INITIAL,
  enqcmdMap,
  enqcmdSubmit,
  enqcmdUnmap,
  GuestPasids,
  HostPasids,
  isTranslating,
  type PasidDeviceType,
  pasidPolicy,
} from '../../src/pasid/index.ts';
import { codeOf } from '../iopt-support.ts';

const PARENT = 0x20;
const guest = (host = new HostPasids()) => new GuestPasids(host);

/** A guest with one device of a type, and its PASIDs. */
const withDevice = (type: PasidDeviceType, host = new HostPasids()) => {
  const pasids = guest(host);
  pasids.addDevice({ name: 'dev', rid: PARENT, type });
  return pasids;
};

describe('kinds of device', () => {
  it.each([
    // type, guest picks, delegated, v == p, pool, info
    [1, false, false, false, 'none', 0],
    [2, false, false, false, 'none', 0],
    [3, false, false, false, 'rid', 0],
    [4, true, true, true, 'rid', 1],
    [5, true, false, true, 'rid', 0],
    [6, true, false, false, 'rid', 0],
    [7, true, false, true, 'rid', 2],
    [8, true, false, false, 'global', 6],
  ] as const)('type %i', (type, vpasid, delegated, identity, pool, info) => {
    expect(pasidPolicy(type)).toMatchObject({ type, vpasid, delegated, identity, pool, info });
  });

  it('knows no other', () => {
    expect([0, 9, 1.5, Number.NaN].map(pasidPolicy)).toEqual(Array(4).fill(undefined));
    expect(codeOf(() => withDevice(9 as PasidDeviceType))).toBe('EINVAL');
  });
});

describe('one guest PASID on each kind', () => {
  it.each([
    [1, 'EINVAL', undefined],
    [2, 'EINVAL', undefined],
    [3, 'EINVAL', undefined],
    [4, 'ok', { vpasid: 5, ppasid: 5, hostWritesEntry: false }],
    [5, 'ok', { vpasid: 5, ppasid: 5, hostWritesEntry: true }],
    [6, 'ok', { vpasid: 5, ppasid: 4097, hostWritesEntry: true }],
    [7, 'ok', { vpasid: 5, ppasid: 5, hostWritesEntry: true }],
    [8, 'ok', { vpasid: 5, ppasid: 4097, hostWritesEntry: true }],
  ] as const)('type %i', (type, code, mapping) => {
    const pasids = withDevice(type);
    const got: { mapping?: unknown } = {};
    expect(
      codeOf(() => {
        got.mapping = pasids.attach('dev', 5);
      }),
    ).toBe(code);
    expect(got.mapping).toEqual(mapping);
    if (!mapping) return;
    expect(pasids.ppasidOf('dev', 5)).toBe(mapping.ppasid);
    expect(pasids.vpasidOf('dev', mapping.ppasid)).toBe(5);
    expect(codeOf(() => pasids.attach('dev', 5))).toBe('EBUSY');
    expect(pasids.detach('dev', 5)).toBe(mapping.ppasid);
    expect(codeOf(() => pasids.detach('dev', 5))).toBe('ENOENT');
  });

  it('a guest that owns the table needs no call (S004 A1)', () => {
    expect(withDevice(4).ppasidOf('dev', 7)).toBe(7);
    expect(codeOf(() => withDevice(5).ppasidOf('dev', 7))).toBe('ENOENT');
  });

  it.each([0, 2 ** 20, -1, 1.5])('refuses PASID %d', (vpasid) => {
    expect(codeOf(() => withDevice(6).attach('dev', vpasid))).toBe('EINVAL');
    expect(codeOf(() => withDevice(4).ppasidOf('dev', vpasid))).toBe('ENOENT');
  });

  it('a slice of type 3 gets a PASID of its parent that no other slice has', () => {
    const pasids = withDevice(3);
    pasids.addDevice({ name: 'other', rid: PARENT, type: 6 });
    expect(pasids.defaultPasid('dev')).toBe(4097);
    expect(pasids.attach('other', 7).ppasid).toBe(4098);
  });
});

describe('slices of one parent (S000 E2, S004 C1)', () => {
  const two = () => {
    const pasids = guest();
    pasids.addDevice({ name: 'mdev1', rid: PARENT, type: 6 });
    pasids.addDevice({ name: 'mdev2', rid: PARENT, type: 6 });
    return pasids;
  };

  it('the same guest PASID becomes 4097 and 4098', () => {
    const pasids = two();
    expect(pasids.attach('mdev1', 7).ppasid).toBe(4097);
    expect(pasids.attach('mdev2', 7).ppasid).toBe(4098);
    expect(pasids.vpasidOf('mdev1', 7)).toBe(-1);
    expect(pasids.vpasidOf('mdev1', 4098)).toBe(-1);
  });

  it('never equals the number on the wire, even when the guest says 4097', () => {
    expect(two().attach('mdev1', 4097).ppasid).toBe(4098);
  });

  it('a freed one comes back only after a flush', () => {
    const pasids = two();
    pasids.attach('mdev1', 7);
    pasids.detach('mdev1', 7);
    expect(pasids.attach('mdev1', 7).ppasid).toBe(4098);
    pasids.host.flushed(PARENT);
    expect(pasids.attach('mdev2', 7).ppasid).toBe(4097);
  });

  it('a parent is never given whole, nor a whole device twice', () => {
    const pasids = two();
    expect(codeOf(() => pasids.addDevice({ name: 'p', rid: PARENT, type: 5 }))).toBe('EBUSY');
    pasids.addDevice({ name: 'p', rid: 0x28, type: 5 });
    const other = guest(pasids.host);
    expect(codeOf(() => other.addDevice({ name: 'p', rid: 0x28, type: 5 }))).toBe('EBUSY');
    expect(codeOf(() => pasids.addDevice({ name: 'p', rid: 0x30, type: 5 }))).toBe('EEXIST');
    pasids.removeDevice('p');
    other.addDevice({ name: 'p', rid: 0x28, type: 5 });
  });

  it('a whole device of the next guest cannot use a PASID that is not flushed', () => {
    const host = new HostPasids();
    const first = withDevice(5, host);
    first.attach('dev', 9);
    first.removeDevice('dev');
    const second = withDevice(5, host);
    expect(codeOf(() => second.attach('dev', 9))).toBe('EBUSY');
    host.flushed(PARENT);
    expect(second.attach('dev', 9).ppasid).toBe(9);
  });
});

describe('ENQCMD slices', () => {
  const enqcmd = (host = new HostPasids()) => {
    const pasids = guest(host);
    pasids.addDevice({ name: 'a', rid: 0x20, type: 8 });
    pasids.addDevice({ name: 'b', rid: 0x28, type: 8 });
    return pasids;
  };

  it('of different parents share the number on the wire (S000 E4)', () => {
    const pasids = enqcmd();
    const { ppasid } = pasids.attach('a', 5);
    expect(pasids.attach('b', 5).ppasid).toBe(ppasid);
    expect(pasids.attach('b', 6).ppasid).not.toBe(ppasid);
    pasids.detach('a', 5);
    expect(pasids.ppasidOf('b', 5)).toBe(ppasid);
  });

  it('two guests never share one; slices of type 6 and 8 neither', () => {
    const host = new HostPasids();
    const [first, second] = [enqcmd(host), guest(host)];
    second.addDevice({ name: 'c', rid: 0x20, type: 8 });
    second.addDevice({ name: 'd', rid: 0x28, type: 6 });
    const all = [first.attach('a', 5), second.attach('c', 5), second.attach('d', 5)];
    all.push(first.attach('b', 6));
    expect(new Set(all.map(({ ppasid }) => ppasid)).size).toBe(4);
  });

  it('a freed number waits for a flush of everything', () => {
    const pasids = enqcmd();
    pasids.attach('a', 5);
    pasids.detach('a', 5);
    pasids.host.flushed(0x20);
    expect(pasids.attach('a', 5).ppasid).toBe(4098);
    pasids.host.flushed();
    expect(pasids.attach('b', 6).ppasid).toBe(4097);
  });

  it('types 7 and 8 differ in their flags and never use PASIDs in one guest (S000 E5)', () => {
    const pasids = guest();
    const seven = pasids.addDevice({ name: 'p', rid: 0x20, type: 7 });
    const eight = pasids.addDevice({ name: 'm', rid: 0x28, type: 8 });
    expect(seven.info).not.toBe(eight.info);
    pasids.attach('p', 5);
    expect(codeOf(() => pasids.attach('m', 5))).toBe('EINVAL');
    pasids.detach('p', 5);
    pasids.attach('m', 5);
    expect(codeOf(() => pasids.attach('p', 5))).toBe('EINVAL');
  });
});

describe('migration (S000 E6)', () => {
  it('keeps the guest numbers; those on the wire may change', () => {
    const pasids = withDevice(6);
    pasids.attach('dev', 5);
    const target = new HostPasids();
    const busy = guest(target);
    busy.addDevice({ name: 'x', rid: PARENT, type: 6 });
    busy.attach('x', 1);
    const moved = withDevice(6, target);
    moved.restore(pasids.save());
    expect([pasids.ppasidOf('dev', 5), moved.ppasidOf('dev', 5)]).toEqual([4097, 4098]);
    expect(moved.save()).toEqual({ dev: [5] });
  });

  it('a restore that fails attaches nothing', () => {
    const narrow = withDevice(6, new HostPasids({ pasidBits: 2 }));
    expect(codeOf(() => narrow.restore({ dev: [1, 2, 3] }))).toBe('ENOSPC');
    expect(narrow.save()).toEqual({ dev: [] });
  });
});

describe('ENQCMD gate', () => {
  const MSR_5 = 0x8000_0005;

  it('a slice portal is shut until its PASID is mapped, then sends the wire PASID (S000 E3)', () => {
    const pasids = withDevice(8);
    const { ppasid } = pasids.attach('dev', 5);
    expect(enqcmdSubmit(ENQCMD_INITIAL, 8, MSR_5)).toEqual({
      kind: 'blocked',
      why: 'needs-translation',
    });
    const open = enqcmdMap(ENQCMD_INITIAL, 5, ppasid);
    expect(enqcmdSubmit(open, 8, MSR_5)).toEqual({ kind: 'sent', pasid: 4097 });
    expect(enqcmdSubmit(open, 8, 0x8000_0006)).toEqual({ kind: 'vm-exit', vpasid: 6 });
    const shut = enqcmdUnmap(open, 5);
    expect(isTranslating(shut)).toBe(false);
    expect(enqcmdSubmit(shut, 8, MSR_5).kind).toBe('blocked');
    expect(isTranslating(ENQCMD_INITIAL)).toBe(false);
  });

  it('a whole device gets the guest PASID itself, while nothing is translated', () => {
    expect(enqcmdSubmit(ENQCMD_INITIAL, 7, MSR_5)).toEqual({ kind: 'sent', pasid: 5 });
    expect(enqcmdSubmit(enqcmdMap(ENQCMD_INITIAL, 5, 9), 7, MSR_5)).toEqual({
      kind: 'blocked',
      why: 'translated',
    });
  });

  it('needs a valid MSR, and a device made for it', () => {
    expect(enqcmdSubmit(ENQCMD_INITIAL, 7, 5)).toEqual({ kind: 'general-protection' });
    expect(enqcmdSubmit(ENQCMD_INITIAL, 5, MSR_5)).toEqual({ kind: 'blocked', why: 'not-enqcmd' });
  });

  it('refuses a second translation, bad numbers and unmapping what is not there', () => {
    const state = enqcmdMap(ENQCMD_INITIAL, 5, 9);
    expect(enqcmdMap(state, 5, 9)).toBe(state);
    expect(codeOf(() => enqcmdMap(state, 5, 10))).toBe('EEXIST');
    expect(codeOf(() => enqcmdMap(state, 0, 10))).toBe('EINVAL');
    expect(codeOf(() => enqcmdMap(state, 6, 2 ** 20))).toBe('EINVAL');
    expect(codeOf(() => enqcmdUnmap(state, 6))).toBe('ENOENT');
  });
});
