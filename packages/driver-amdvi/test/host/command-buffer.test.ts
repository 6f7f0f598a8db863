import { createMachine, HostMemory, INVALIDATION_ANSWER } from '@iommukit/core';
import { expect, test } from 'vitest';
import { CommandBuffer } from '../../src/host/command-buffer.ts';
import { createAmdviHardware } from '../../src/index.ts';
import {
  attach,
  bench,
  FULL,
  map,
  paging,
  reach,
  reachAts,
  SVA_DEVICE,
  stampedPage,
} from './fixture.ts';

const INVALIDATE_ALL = 0x8000_0000;

const createBuffer = () => {
  const { memory } = createMachine();
  const unit = createAmdviHardware({ memory });
  const buffer = new CommandBuffer(unit, new HostMemory(memory));
  buffer.program();
  unit.writeReg32(0x18, 0x1001);
  return { memory, unit, buffer };
};

test('a refused command is EIO and says where; then the buffer works again', () => {
  const { buffer } = createBuffer();
  buffer.push(0, INVALIDATE_ALL, 0, 0);
  buffer.push(0, 0xf000_0000, 0, 0);
  expect(() => buffer.submit()).toThrow(/stopped at byte 16/);
  buffer.push(0, INVALIDATE_ALL, 0, 0);
  expect(() => buffer.submit()).not.toThrow();
});

test('commands behind a refused one are done all the same', () => {
  const { memory, buffer } = createBuffer();
  const at = memory.allocPages(1);
  buffer.push(0, 0xf000_0000, 0, 0);
  buffer.push(0, 0xf000_0000, 0, 0);
  buffer.push((at % 2 ** 32) + 1, 0x1000_0000 + Math.floor(at / 2 ** 32), 0x1234, 0);
  expect(() => buffer.submit()).toThrow(/stopped at byte 0/);
  expect(memory.read32(at)).toBe(0x1234);
});

test('a unit that is off: EIO, no hang', () => {
  const { unit, buffer } = createBuffer();
  unit.writeReg32(0x18, 0);
  buffer.push(0, INVALIDATE_ALL, 0, 0);
  expect(() => buffer.submit()).toThrow(/stopped/);
});

test('more commands than the ring holds go in parts', () => {
  const { unit, buffer } = createBuffer();
  for (let at = 0; at < 2000; at++) buffer.push(0, INVALIDATE_ALL, 0, 0);
  buffer.submit();
  // 2000 commands in chunks of 510, a wait each: 2004 entries of a ring of 512.
  expect(unit.readReg32(0x2000)).toBe((2004 % 512) * 16);
});

test('a device that answers no invalidation holds up nobody else', () => {
  const at = bench(FULL, [SVA_DEVICE, { ...SVA_DEVICE, rid: '00:06.0' }]);
  const [hung, other] = at.devices;
  if (!hung || !other) throw new Error('two devices');
  const domain = paging(at);
  attach(at, domain, -1, hung);
  attach(at, domain, -1, other);
  const frame = stampedPage(at.machine);
  map(domain, 7, frame);
  for (const device of at.devices) expect(reachAts(device, 7)).toBe(frame);
  hung.invalidationAnswer = INVALIDATION_ANSWER.NONE;
  const reasons: number[] = [];
  at.machine.onFault(({ reason }) => reasons.push(reason));
  domain.unmap(7, 1);
  expect(() => domain.sync()).not.toThrow();
  expect([reach(other, 7), reachAts(other, 7)]).toEqual([-1, -1]);
  expect(reasons[0]).toBe(7);
});
