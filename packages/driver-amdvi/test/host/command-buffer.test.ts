import { createMachine, HostMemory } from '@iommukit/core';
import { expect, test } from 'vitest';
import { CommandBuffer } from '../../src/host/command-buffer.ts';
import { createAmdviHardware } from '../../src/index.ts';

const INVALIDATE_ALL = 0x8000_0000;

const createBuffer = () => {
  const { memory } = createMachine();
  const unit = createAmdviHardware({ memory });
  const buffer = new CommandBuffer(unit, new HostMemory(memory));
  buffer.program();
  unit.writeReg32(0x18, 0x1001);
  return { unit, buffer };
};

test('a refused command is EIO and says where; then the buffer works again', () => {
  const { buffer } = createBuffer();
  buffer.push(0, INVALIDATE_ALL, 0, 0);
  buffer.push(0, 0xf000_0000, 0, 0);
  expect(() => buffer.submit()).toThrow(/stopped at byte 16/);
  buffer.push(0, INVALIDATE_ALL, 0, 0);
  expect(() => buffer.submit()).not.toThrow();
});

test('more commands than the ring holds go in parts', () => {
  const { unit, buffer } = createBuffer();
  for (let at = 0; at < 2000; at++) buffer.push(0, INVALIDATE_ALL, 0, 0);
  buffer.submit();
  // 2000 commands in chunks of 510, a wait each: 2004 entries of a ring of 512.
  expect(unit.readReg32(0x2000)).toBe((2004 % 512) * 16);
});
