import { encode } from '@iommukit/bits';
import { ACCESS, INVALIDATION_ANSWER, isIommuError, isStalled } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { ATC_INV, COMMAND, RESUME, SYNC } from '../../src/spec/index.ts';
import { ALL_ON, createRig, type Rig, type RigOptions, VECTOR_PROFILE } from './rig.ts';

const NESTED = {
  '0x1005c0': '0x6000f',
  '0x1005c8': '0x10080000',
  '0x1005d0': '0x44d355900000007',
  '0x1005d8': '0x200000000',
  '0x1000307f0': '0x31003',
  '0x100031000': '0x32003',
  '0x100032000': '0x33003',
  '0x100033008': '0x9f43',
  '0x100060000': '0x1e205c0003510',
  '0x100060008': '0x30000',
  '0x200000000': '0x1000007fd',
} as const;
/** CD with S: faults stall. */
const STALLING = { '0x100060000': '0x1f205c0003510' };
const SID = 0x17;
const PFN = 0x7_f000_0001;
const { READ, WRITE } = ACCESS;

const start = (options: RigOptions = {}, changes: Readonly<Record<string, string>> = {}): Rig => {
  const rig = createRig(options);
  rig.store({ ...NESTED, ...changes });
  return rig;
};

/** The same memory, another unit, which gets the bytes. */
const move = (from: Rig, options: RigOptions = {}): Rig => {
  const to = createRig({ ...options, cr0: 0 });
  to.memory.copyFrom(from.memory);
  to.unit.restore(from.unit.snapshot());
  return to;
};

const read = (rig: Rig, access: number = READ, pfn = PFN) =>
  rig.unit.translatePage(SID, -1, pfn, access);

describe('snapshot of a unit', () => {
  test('registers: every dword, and what they mean', () => {
    const rig = start();
    read(rig, READ, 1);
    const to = move(rig);
    for (let offset = 0; offset < 0x200; offset += 4)
      expect([offset, to.unit.readReg32(offset)]).toEqual([offset, rig.unit.readReg32(offset)]);
    for (const offset of [0x100a8, 0x100ac, 0x100c8, 0x100cc])
      expect(to.unit.readReg32(offset)).toBe(rig.unit.readReg32(offset));
    expect(to.events()).toEqual(rig.events());
    expect(read(to)).toBe(0x10_0009);
    to.run(encode(SYNC, { OPCODE: COMMAND.SYNC }));
    expect(to.unit.readReg32(0x9c)).toBe(1);
    to.unit.pageRequest({
      rid: SID,
      pasid: -1,
      addressPfn: 1,
      read: true,
      write: false,
      exec: false,
      priv: false,
      last: true,
      prgi: 1,
    });
    expect(to.pageRequests()).toHaveLength(1);
  });

  test('a unit that is off stays off', () => {
    const rig = start({ cr0: 0 });
    expect(read(move(rig))).toBe(PFN);
  });

  test('caches: stale entries stay stale, and commands reach them', () => {
    const rig = start();
    read(rig);
    const to = move(rig);
    to.store({ '0x100033008': '0xaf43', '0x100060000': '0x0', '0x1005c0': '0x1' });
    expect(read(to)).toBe(0x10_0009);
    expect([...to.unit.caches.tlb.entries()]).toEqual([...rig.unit.caches.tlb.entries()]);
    to.run(Uint32Array.of(COMMAND.TLBI_NSNH_ALL, 0, 0, 0));
    expect(read(to)).toBe(0x10_000a);
    to.run(Uint32Array.of(COMMAND.CFGI_STE, SID, 1, 0));
    expect(read(to)).toBeLessThan(0);
    expect(to.events()).toEqual([]);
  });

  test('the bytes are canonical: saving what was restored gives them again', () => {
    const rig = start({ capabilities: VECTOR_PROFILE }, STALLING);
    read(rig);
    read(rig, READ, 9);
    read(rig, READ, 5);
    const bytes = rig.unit.snapshot();
    expect(move(rig, { capabilities: VECTOR_PROFILE }).unit.snapshot()).toEqual(bytes);
    rig.unit.restore(bytes);
    expect(rig.unit.snapshot()).toEqual(bytes);
  });

  test('stalled requests wait on: RESUME of the record ends them', () => {
    const options = { capabilities: VECTOR_PROFILE };
    const rig = start(options, STALLING);
    expect(isStalled(read(rig, READ, 9))).toBe(true);
    const to = move(rig, options);
    const [record] = to.events();
    const stag = Number((record?.[1] ?? 0n) & 0xffffn);
    expect((record?.[1] ?? 0n) >> 31n).toBeTruthy();
    to.store({ '0x1000307f0': '0x31003' });
    to.run(encode(RESUME, { OPCODE: COMMAND.RESUME, SID, AB: 1, STAG: stag }));
    expect(to.resumed).toEqual([[SID, 0, -1]]);
    expect(rig.resumed).toEqual([]);
  });

  test('an ATC_INV without answer is reported by the next SYNC of the other unit', () => {
    const rig = start();
    rig.device.answer = INVALIDATION_ANSWER.NONE;
    rig.run(encode(ATC_INV, { OPCODE: COMMAND.ATC_INV, SID, SIZE: 52 }));
    const to = move(rig);
    to.sync();
    expect(to.commandError()).toBe(3);
  });

  test('overflow of the page request queue goes on inhibiting', () => {
    const rig = start();
    const request = { rid: SID, pasid: -1, addressPfn: 1, exec: false, priv: false };
    for (let prgi = 0; prgi < 9; prgi++)
      rig.unit.pageRequest({ ...request, read: true, write: false, last: true, prgi });
    const to = move(rig);
    to.unit.writeReg32(0x100cc, 8);
    to.unit.pageRequest({ ...request, read: true, write: false, last: true, prgi: 9 });
    expect(to.responses).toHaveLength(1);
  });
});

const refusal = (call: () => void): string => {
  try {
    call();
  } catch (error) {
    if (isIommuError(error)) return `${error.code} ${error.message}`;
    throw error;
  }
  return 'accepted';
};

describe('bytes that do not fit are refused by name, and nothing changes', () => {
  test.each([
    ['other capabilities', { capabilities: { idr0: { ATS: 0 } } }, /EINVAL.*IDR0 differs in.*ATS/],
    ['another PRI queue', { capabilities: { idr1: { PRIQS: 4 } } }, /IDR1 differs in PRIQS/],
    ['another TLB', { caches: { tlbEntries: 64 } }, /the TLB has another size/],
    [
      'other configuration caches',
      { caches: { configEntries: 64 } },
      /the STE cache has another size/,
    ],
  ] as const)('%s', (_, options, message) => {
    const rig = start(options);
    read(rig);
    const to = start();
    read(to);
    const before = to.unit.snapshot();
    expect(refusal(() => to.unit.restore(rig.unit.snapshot()))).toMatch(message);
    expect(to.unit.snapshot()).toEqual(before);
  });

  test('damaged bytes: refused, or a unit that neither throws nor hangs', () => {
    const rig = start(
      { capabilities: VECTOR_PROFILE, caches: { tlbEntries: 32, configEntries: 32 } },
      STALLING,
    );
    read(rig);
    read(rig, WRITE, 9);
    const good = rig.unit.snapshot();
    let seed = 1;
    const next = (below: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return seed % below;
    };
    let accepted = 0;
    for (let round = 0; round < 300; round++) {
      const bytes = good.slice();
      for (let at = 0; at <= next(4); at++) bytes[next(bytes.length)] = next(256);
      const to = start({
        capabilities: VECTOR_PROFILE,
        caches: { tlbEntries: 32, configEntries: 32 },
      });
      const before = to.unit.snapshot();
      if (refusal(() => to.unit.restore(bytes)) !== 'accepted') {
        expect(to.unit.snapshot()).toEqual(before);
        continue;
      }
      accepted++;
      for (const pfn of [PFN, 9, 0, 2 ** 40]) read(to, WRITE, pfn);
      to.run(Uint32Array.of(COMMAND.TLBI_NSNH_ALL, 0, 0, 0));
      to.sync();
      to.unit.snapshot();
    }
    expect(accepted).toBeGreaterThan(30);
    expect(accepted).toBeLessThan(300);
  });

  test('bytes that are cut off', () => {
    const bytes = start().unit.snapshot();
    const to = start();
    for (const length of [0, 1, 100, bytes.length - 1])
      expect(refusal(() => to.unit.restore(bytes.subarray(0, length)))).toMatch(/^EINVAL/);
    const longer = new Uint8Array(bytes.length + 1);
    longer.set(bytes);
    expect(refusal(() => to.unit.restore(longer))).toMatch(/^EINVAL/);
  });
});

test('a sanitizer does not judge what it did not see come', () => {
  const rig = start({ sanitize: true });
  read(rig);
  const to = move(rig, { sanitize: true });
  to.store({ '0x100033008': '0xaf43' });
  expect(to.unit.sanitizer?.audit()).toEqual([]);
  expect(ALL_ON).toBe(to.unit.readReg32(0x20));
});
