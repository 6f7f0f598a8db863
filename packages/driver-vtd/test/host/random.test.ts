/**
 * Random lives of a few devices and domains against a plain table of what should be reachable.
 * After every step that takes a translation away, the old page must be out of reach at once.
 */
import type { PagingDomain } from '@iommukit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { VtdIommuUnit, VtdOptions } from '../../src/index.ts';
import { type Bench, bench, HWPT, reach, reachAts, SVA_DEVICE, stampedPage } from './fixture.ts';

const DEVICES = [SVA_DEVICE, { rid: '00:06.0' }, { ...SVA_DEVICE, rid: '01:00.1' }];
const DOMAINS = 4;
const PAGES = 24;
const BASE = 0x1f8;
const SLOTS = [-1, 3, 700];

type Step =
  | { readonly op: 'map'; readonly domain: number; readonly page: number; readonly count: number }
  | { readonly op: 'unmap'; readonly domain: number; readonly page: number; readonly count: number }
  | { readonly op: 'attach'; readonly device: number; readonly slot: number; readonly to: number }
  | { readonly op: 'replug'; readonly device: number };

const domain = fc.nat({ max: DOMAINS - 1 });
const page = fc.nat({ max: PAGES - 1 });
const count = fc.integer({ min: 1, max: 6 });
const device = fc.nat({ max: DEVICES.length - 1 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant('map' as const), domain, page, count }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('unmap' as const), domain, page, count }) },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant('attach' as const),
      device,
      slot: fc.nat({ max: SLOTS.length - 1 }),
      to: fc.integer({ min: -1, max: DOMAINS - 1 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('replug' as const), device }) },
);

class World {
  readonly at: Bench;
  readonly domains: PagingDomain[];
  readonly tables = Array.from({ length: DOMAINS }, () => new Map<number, number>());
  readonly attached = new Map<string, number>();
  readonly pool: number;

  constructor(options: VtdOptions) {
    this.at = bench(options, DEVICES);
    const second = options.scalable === false ? 0 : HWPT.DIRTY_TRACKING;
    this.domains = this.tables.map((_, i) =>
      this.at.unit.allocPaging(this.at.device, { flags: i % 2 === 0 ? 0 : second }),
    );
    this.pool = stampedPage(this.at.machine, 64);
  }

  canHave(index: number, slot: number): boolean {
    if (slot < 0) return true;
    return this.at.unit.caps.pasidBits > 0 && DEVICES[index]?.pasidBits !== undefined;
  }

  run(step: Step): void {
    if (step.op === 'map') this.map(step.domain, step.page, step.count);
    else if (step.op === 'unmap') this.unmap(step.domain, step.page, step.count);
    else if (step.op === 'attach') this.attach(step.device, SLOTS[step.slot] as number, step.to);
    else this.replug(step.device);
  }

  map(domain: number, page: number, count: number): void {
    const table = this.tables[domain] as Map<number, number>;
    const frame = this.pool + ((page * 5 + domain * 7) % 58);
    const taken = Array.from({ length: count }, (_, i) => page + i).some((p) => table.has(p));
    const result = this.domains[domain]?.mapRuns(BASE + page, Float64Array.of(frame, count), 1, 3);
    expect(result).toBe(taken ? -98 : 0);
    if (!taken) for (let i = 0; i < count; i++) table.set(page + i, frame + i);
  }

  unmap(domain: number, page: number, count: number): void {
    const table = this.tables[domain] as Map<number, number>;
    let expected = 0;
    for (let i = 0; i < count; i++) if (table.delete(page + i)) expected++;
    expect(this.domains[domain]?.unmap(BASE + page, count)).toBe(expected);
    this.domains[domain]?.sync();
  }

  attach(index: number, slot: number, to: number): void {
    if (!this.canHave(index, slot)) return;
    const device = this.at.devices[index] as Bench['device'];
    this.at.unit.attach(device, slot, this.domains[to] ?? this.at.unit.blocking);
    this.attached.set(`${index} ${slot}`, to);
  }

  replug(index: number): void {
    const device = this.at.devices[index] as Bench['device'];
    this.at.unit.releaseDevice(device);
    this.at.unit.probeDevice(device);
    for (const slot of SLOTS) this.attached.delete(`${index} ${slot}`);
  }

  /** Everything reachable is what the tables say, by plain DMA and through the device's TLB. */
  check(): void {
    this.at.devices.forEach((device, index) => {
      for (const slot of SLOTS) {
        if (!this.canHave(index, slot)) continue;
        const table = this.tables[this.attached.get(`${index} ${slot}`) ?? -1];
        const pasid = slot < 0 ? undefined : slot;
        for (let page = 0; page < PAGES + 4; page++) {
          const expected = table?.get(page) ?? -1;
          expect(reach(device, BASE + page, pasid)).toBe(expected);
          if (device.ats) expect(reachAts(device, BASE + page, pasid)).toBe(expected);
        }
      }
    });
  }
}

describe('random sequences', () => {
  it.each<[string, VtdOptions]>([
    ['scalable mode', {}],
    ['legacy mode', { scalable: false }],
    ['caching mode', { capabilities: { cap: { CM: 1 } } }],
    ['caching mode, legacy', { scalable: false, capabilities: { cap: { CM: 1 } } }],
    ['no page-selective invalidation', { capabilities: { cap: { PSI: 0 } } }],
  ])('%s: DMA goes where the tables say, after every step', (_name, options) => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 25 }), (steps) => {
        const world = new World({ ...options, sanitize: true });
        for (const one of steps) {
          world.run(one);
          world.check();
        }
        const { hardware } = world.at.unit as VtdIommuUnit;
        expect(hardware.readReg32(0x34) & 0x70).toBe(0);
        hardware.sanitizer?.audit();
        expect(hardware.sanitizer?.findings).toEqual([]);
      }),
      { numRuns: 15 },
    );
  });
});
