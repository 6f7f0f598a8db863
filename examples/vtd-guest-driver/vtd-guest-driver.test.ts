import { readdirSync, readFileSync } from 'node:fs';
import { format } from 'node:util';
import { CC_INV_DSC, FSTS, SM_ROOT_ENTRY } from '@iommukit/driver-vtd';
import { describe, expect, test, vi } from 'vitest';
import { createEmulator, DEVICE_RID } from './emulator.ts';
import { GuestDriver, RID_PASID } from './guest-driver.ts';
import { InvalidationQueue } from './invalidation-queue.ts';
import { runScenario } from './scenario.ts';

const folder = new URL('.', import.meta.url);
const source = (name: string) => readFileSync(new URL(name, folder), 'utf8');

/** Files of the guest's side. */
const GUEST = readdirSync(folder).filter(
  (name) => name.endsWith('.ts') && !/^(emulator|main|scenario|.*\.test)\.ts$/.test(name),
);

/** Register and structure layouts are written in capitals. */
const LAYOUT = /^[A-Z][A-Z0-9_]*$/;

describe('a guest driver on the hardware half', () => {
  test('what it does is what it says', () => {
    const steps = runScenario().map(({ title, facts }) => [title, ...Object.values(facts)]);
    expect(steps).toEqual([
      [
        'Bring the unit up through its registers',
        'VT-d 6.0, 57-bit addresses, 16-bit domain ids, 8 fault records',
        'blocked',
        expect.stringMatching(/^0x39 SRT\.2 .* write by 0x20 to 0x40000000$/),
      ],
      ['Build root, context, PASID entry and a second-stage table, map a page', 'page A'],
      ['Point the page elsewhere', 'page A', 'page B'],
      [
        'Touch a page that is not mapped',
        'blocked',
        expect.stringMatching(/^0x79 SSS\.2 .* write by 0x20 to 0x40001000$/),
        'PPF=0 PFO=0',
      ],
      ['Map it and go on', 'page C'],
      [
        'Serve page requests of a device with PASID 42 and a first-stage table',
        'blocked',
        'PASID 42 0x7f0000001000 PRGI 0, PASID 42 0x7f0000002000 PRGI 1',
        '0, 1',
        'page A',
      ],
      ['Unmap it again', 'page A', 'blocked', 0],
      ['What the unit counted', expect.any(String), expect.any(Number), 2],
    ]);
  });

  test('the README shows what it prints', async () => {
    const lines: string[] = [];
    const log = vi.spyOn(console, 'log').mockImplementation((...args) => {
      lines.push(format(...args));
    });
    await import('./main.ts');
    log.mockRestore();
    const [, shown] = /```text\n([\s\S]*?)```/.exec(source('README.md')) ?? [];
    expect(lines.join('\n')).toBe(shown?.trimEnd());
  });

  test('the guest side uses layouts only: no core, no host half, no hardware model', () => {
    expect(GUEST).toContain('guest-driver.ts');
    for (const name of GUEST) {
      for (const [, names, from] of source(name).matchAll(
        /import (?:type )?\{([^}]*)\} from '([^']*)'/g,
      )) {
        if (from?.startsWith('./')) {
          expect(GUEST, `${name} imports ${from}`).toContain(from.slice(2));
        } else if (from === '@iommukit/driver-vtd') {
          const imported = (names ?? '').split(',').map((one) => one.trim());
          for (const one of imported.filter(Boolean)) expect(one, name).toMatch(LAYOUT);
        } else expect(from, name).toBe('@iommukit/bits');
      }
    }
  });
});

describe('recovery', () => {
  test('more faults than records: overflow is cleared, later faults are recorded', () => {
    const { endpoint, platform, machine } = createEmulator();
    const driver = new GuestDriver(platform);
    driver.addDevice(DEVICE_RID);
    const space = driver.attach(DEVICE_RID, RID_PASID, 'second');
    // Interrupts are edge triggered: with a fault pending no further message comes.
    platform.writeRegister(0x38, 0x8000_0000);
    for (let page = 0; page < 20; page++) endpoint.dmaWrite(page * 4096, Uint8Array.of(1));
    expect(driver.events.faultStatus).toMatchObject({ PFO: 1, PPF: 1, FRI: 0 });
    platform.writeRegister(0x38, 0);
    expect(driver.events.faults.map(({ FI }) => FI / 4096)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(driver.events.faultStatus).toMatchObject({ PFO: 0, PPF: 0 });
    endpoint.dmaWrite(0x9_9000, Uint8Array.of(1));
    expect(driver.events.faults[8]).toMatchObject({ FI: 0x9_9000, SID: DEVICE_RID, FR: 0x79 });
    const page = platform.allocPages(1);
    space.table.map(0x9_9000, page);
    expect(endpoint.dmaWrite(0x9_9000, Uint8Array.of(5))).toBe(1);
    expect(machine.memory.read32(page)).toBe(5);
  });

  test('a descriptor that the unit refuses stops the queue with a name (IQEI 3)', () => {
    const { platform } = createEmulator();
    const queue = new InvalidationQueue(platform);
    platform.writeRegister(0x18, 0x0400_0000);
    queue.push(CC_INV_DSC, { TYPE: 'CC_INV', G: 1 });
    queue.flush();
    queue.push(SM_ROOT_ENTRY, { LCTP: 0xfff_f000 });
    expect(() => queue.flush()).toThrow(/IQERCD\.IQEI=3/);
    expect(platform.readRegister(FSTS.offset) & FSTS.fields.IQE.mask).not.toBe(0);
  });

  test('a unit without scalable mode is refused by name', () => {
    const { platform } = createEmulator();
    const legacy = {
      ...platform,
      readRegister: (at: number) => (at === 0x14 ? 0 : platform.readRegister(at)),
    };
    expect(() => new GuestDriver(legacy)).toThrow('this driver needs a unit with ECAP.SMTS');
  });

  test('a unit that does not answer is given up', () => {
    const { platform } = createEmulator();
    const dead = { ...platform, writeRegister: () => {} };
    expect(() => new GuestDriver(dead)).toThrow('the unit does not answer: GSTS.QIES');
  });
});
