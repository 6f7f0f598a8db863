import { describe, expect, test } from 'vitest';
import { FULL_EFR } from '../../src/index.ts';
import { AT, ENABLES, Fixture, RID } from './fixture.ts';

const PASID = { pasid: 5 };
const OLD = AT.data + 0x1000;
const NEW = AT.data + 0x5000;

/** A unit in the middle of its life: stale entries, entries in its logs, a stopped command buffer. */
const busy = (options = {}) => {
  const t = new Fixture(options);
  t.guestDevice({ PPR: 1 });
  t.dma(0x1000, PASID);
  t.page(1, { ADDR: NEW });
  t.gcr3Entry(5, {});
  t.dma(0x5000, PASID);
  t.request();
  t.run([0, 0xf000_0000, 0, 0]);
  return t;
};

describe('snapshot and restore', () => {
  test('registers, caches and stops come back; memory is not part of it', () => {
    const t = busy();
    const state = structuredClone(t.unit.snapshot());
    const registers = [0x18, 0x2000, 0x2008, 0x2018, 0x2020, 0x2038].map((at) =>
      t.unit.readReg32(at),
    );
    t.unit.reset();
    expect(t.unit.readReg32(0x18)).toBe(0);
    t.unit.restore(state);
    expect(
      [0x18, 0x2000, 0x2008, 0x2018, 0x2020, 0x2038].map((at) => t.unit.readReg32(at)),
    ).toEqual(registers);
    // Stale, because nothing invalidated it; the CR3 too.
    expect(t.dma(0x1000, PASID)).toBe(OLD);
    expect(t.dma(0x21_0000, PASID)).toBe(0x1_0000);
    expect(t.unit.snapshot().registers).toEqual(state.registers);
  });

  test('a restored unit goes on: logs, restart of the command buffer, enables', () => {
    const t = busy();
    const state = t.unit.snapshot();
    const other = new Fixture();
    other.unit.reset();
    for (let pa = AT.deviceTable; pa < AT.data; pa += 4) other.memory.write32(pa, t.word(pa));
    other.unit.restore(state);
    expect(other.takePprs()).toEqual(t.takePprs());
    expect(other.takeEvents()).toEqual(t.takeEvents());
    expect(other.unit.readReg32(0x2020) & 0x10).toBe(0);
    other.control(ENABLES);
    expect(other.unit.readReg32(0x2020) & 0x10).toBe(0);
    other.control({ ...ENABLES, CMD_BUF_EN: 0 });
    other.unit.writeReg32(0x2000, 0x10);
    other.control(ENABLES);
    other.run([RID, 0x2000_0000, 0, 0]);
    expect(other.unit.readReg32(0x2000)).toBe(0x20);
  });

  test('a command that waits for ever goes on waiting', () => {
    const t = new Fixture();
    t.control({ ...ENABLES, INV_TIME_OUT: 0 });
    t.invalidationAnswer = 1;
    t.run([RID, 0x4000_0000, 0, 0]);
    const state = t.unit.snapshot();
    t.unit.reset();
    t.unit.restore(state);
    t.run([0, 0x1000_0000, 0, 0]);
    expect(t.unit.readReg32(0x2000)).toBe(0);
  });

  test('the sanitizer knows where restored entries came from', () => {
    const t = busy({ sanitize: true });
    const state = t.unit.snapshot();
    t.unit.reset();
    t.unit.restore(state);
    expect(t.dma(0x1000, PASID)).toBe(OLD);
    expect(t.unit.sanitizer?.findings.at(-1)).toMatchObject({
      kind: 'stale-translation',
      change: { structure: 'GCR3_ENTRY' },
    });
  });

  test.each<[string, object, RegExp]>([
    ['fewer IOTLB entries', { caches: { iotlbEntries: 64 } }, /IOTLB state has/],
    ['fewer device entries', { caches: { deviceEntries: 64 } }, /context cache state has/],
  ])('the state of a unit with %s is refused with nothing changed', (_, options, message) => {
    const t = busy();
    const before = t.unit.snapshot();
    const other = new Fixture({ capabilities: { efr: FULL_EFR }, ...options });
    expect(() => t.unit.restore(other.unit.snapshot())).toThrow(message);
    expect(t.unit.snapshot()).toEqual(before);
    const registers = new Uint32Array(3);
    expect(() => t.unit.restore({ ...before, registers })).toThrow(
      /snapshot has 3 register dwords/,
    );
    expect(t.unit.snapshot()).toEqual(before);
  });
});
