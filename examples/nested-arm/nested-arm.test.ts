import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { GuestDriver } from './guest-driver.ts';
import { Host, RAM_BASE } from './host.ts';
import type { Platform } from './platform.ts';
import { runScenario } from './scenario.ts';
import { VirtualSmmu } from './virtual-smmu.ts';

const VSID = 0x10;
const CMDQ_BASE = 0x90;
const CMDQ_PROD = 0x98;

/** A guest without a driver. */
const bare = () => {
  const host = new Host(VSID);
  const smmu = new VirtualSmmu(host, VSID);
  let free = RAM_BASE;
  const platform: Platform = {
    readRegister: (offset) => smmu.readRegister(offset),
    writeRegister: (offset, value) => smmu.writeRegister(offset, value),
    readMemory: (address) => host.readMemory(address),
    writeMemory: (address, value) => host.writeMemory(address, value),
    allocPages: (count) => {
      free += count * 4096;
      return free - count * 4096;
    },
  };
  return { host, smmu, platform };
};

describe('a guest’s SMMUv3', () => {
  test('what it does is what it says', () => {
    const facts = runScenario().map((step) => Object.values(step.facts));
    expect(facts).toEqual([
      ['page A', 0],
      ['StreamIDs of 16 bits, SubstreamIDs of 20', 'blocked', 0],
      ['page A', 1],
      ['page A', 0],
      ['page B', 1],
      ['page C', 'page B', 0],
      ['blocked', 'F_TRANSLATION of stream 0x10 at 0x7f0000002000', 0],
      ['ILL', 'yes', 1],
      ['blocked', 'C_BAD_STE of stream 0x10', 2],
    ]);
  });

  test('the guest’s side knows nothing of the host', () => {
    for (const name of ['guest-driver.ts', 'page-table.ts', 'platform.ts']) {
      const source = readFileSync(new URL(name, import.meta.url), 'utf8');
      for (const [, from = ''] of source.matchAll(/ from '([^']*)'/g)) {
        expect(from, name).not.toMatch(/core|host|virtual/);
      }
    }
  });

  test('an event queue that the guest does not empty overflows, and goes on when it does', () => {
    const { host, smmu, platform } = bare();
    const driver = new GuestDriver(platform);
    driver.addDevice(VSID);
    driver.setContext(VSID, 0, driver.createSpace());
    for (let page = 0; page < 40; page++) {
      host.device.dmaWrite(page * 4096, Uint8Array.of(1));
      smmu.deliverEvents();
    }
    expect(driver.takeEvents().map(({ INPUT_ADDR }) => Number(INPUT_ADDR) / 4096)).toEqual(
      Array.from({ length: 16 }, (_, page) => page),
    );
    host.device.dmaWrite(0x99_9000, Uint8Array.of(1));
    smmu.deliverEvents();
    expect(driver.takeEvents()).toMatchObject([{ CODE: 0x10, SID: VSID }]);
  });

  test('queues and tables anywhere: the VMM stays, and the device reaches nothing', () => {
    const { host, platform } = bare();
    platform.writeRegister(CMDQ_BASE, 0xffff_ffff);
    platform.writeRegister(CMDQ_BASE + 4, 0xffff_ffff);
    platform.writeRegister(0x80, 0xffff_ffc0);
    platform.writeRegister(0x84, 0x000f_ffff);
    platform.writeRegister(0x88, 63);
    platform.writeRegister(0x20, 0xd);
    platform.writeRegister(CMDQ_PROD, 0x1ff);
    expect(host.device.dmaWrite(RAM_BASE, Uint8Array.of(1))).toBe(0);
    // Off again, it bypasses.
    platform.writeRegister(0x20, 0);
    expect(host.device.dmaWrite(RAM_BASE, Uint8Array.of(1))).toBe(1);
  });
});
