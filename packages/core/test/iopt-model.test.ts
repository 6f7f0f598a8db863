import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  AllowedListBuilder,
  addAccess,
  addDomain,
  cutAreas,
  IoPagetable,
  type IoptAccess,
  pinAccess,
  removeDomain,
  setLargePages,
  unpinAccess,
} from '../src/iopt/index.ts';
import { FrameRuns } from '../src/memory/index.ts';
import {
  ANON,
  areasOf,
  audit,
  codeOf,
  type HeldPin,
  RW,
  setup,
  TestDomain,
} from './iopt-support.ts';

const VA = 0x4000_0000;
const PAGES = 24;
const HALF = 0x800;

const where = fc.nat(2 * PAGES - 1);
const units = fc.integer({ min: 1, max: 10 });
const side = fc.nat(1);
const command = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant('map' as const),
      side,
      at: where,
      va: where,
      n: units,
      prot: fc.constantFrom(1, 2, 3),
      auto: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant('file' as const), side, at: where, n: units }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('copy' as const),
      side,
      at: where,
      to: where,
      n: units,
      prot: fc.constantFrom(1, 3),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constant('unmap' as const), side, at: where, n: units }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('domain' as const),
      side,
      granule: fc.constantFrom(11, 12),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant('undomain' as const), side, which: fc.nat(3) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('pin' as const),
      side,
      at: where,
      n: units,
      write: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('unpin' as const), which: fc.nat(5) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('munmap' as const), va: where, n: units }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('mmap' as const), va: where, n: units }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('cut' as const), side, at: where }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('large' as const), side, enable: fc.boolean() }),
  },
);
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;

interface Pin {
  iopt: IoPagetable;
  iova: number;
  length: number;
  held: HeldPin[];
}

/** Two address spaces of one context, one process, and what the test knows of them. */
class World {
  readonly all = setup();
  readonly iopts = [new IoPagetable(this.all.context), new IoPagetable(this.all.context)];
  readonly access: IoptAccess;
  readonly file = this.all.process.createFile({ size: 16 * 4096 });
  pins: Pin[] = [];
  domains = 0;

  constructor() {
    const { process } = this.all;
    process.mmap({ addr: VA, length: PAGES * 4096, prot: RW, flags: ANON });
    this.access = {
      iovaAlignment: 1,
      unmap: (iova, length) => {
        const end = Number(iova) + Number(length);
        for (const pin of [...this.pins]) {
          if (pin.iova < end && Number(iova) < pin.iova + pin.length) this.unpin(pin);
        }
      },
    };
    for (const iopt of this.iopts) addAccess(iopt, this.access);
  }

  get held(): HeldPin[] {
    return this.pins.flatMap((pin) => pin.held);
  }

  unpin(pin: Pin): void {
    this.pins.splice(this.pins.indexOf(pin), 1);
    unpinAccess(pin.iopt, this.access, pin.iova, pin.length);
  }

  pin(iopt: IoPagetable, iova: number, length: number, write: boolean): void {
    const held: HeldPin[] = [];
    for (const { start, last, pages, first, offset } of areasOf(iopt)) {
      const from = Math.max(iova, Number(start));
      const to = Math.min(iova + length - 1, Number(last));
      if (from > to) continue;
      const page = (at: number) => first + Math.floor((offset + at - Number(start)) / 4096);
      held.push({ pages, first: page(from), count: page(to) - page(from) + 1 });
    }
    pinAccess(iopt, this.access, iova, length, write, new FrameRuns());
    this.pins.push({ iopt, iova, length, held });
  }

  /** What must not change when a call fails: areas, domains, options. */
  snapshot(): string {
    return this.iopts
      .map((iopt) =>
        JSON.stringify([
          areasOf(iopt).map((a) => [`${a.start}`, `${a.last}`, a.first, a.offset, a.prot]),
          iopt.domains.map(({ label }) => label),
          iopt.reserved.all.length,
          iopt.allowed.all.length,
          iopt.iovaAlignment,
          iopt.largePages,
        ]),
      )
      .join();
  }

  run(c: Command): void {
    const { process } = this.all;
    const iopt = this.iopts['side' in c ? c.side : 0] as IoPagetable;
    const other = this.iopts['side' in c ? 1 - c.side : 0] as IoPagetable;
    const iova = 'at' in c ? 0x10000 + c.at * HALF : 0;
    const length = 'n' in c ? c.n * HALF : 0;
    if (c.op === 'map') {
      const userVa = VA + c.va * HALF;
      const fixed = c.auto ? {} : { iova };
      iopt.mapUser({ process, userVa, length, prot: c.prot, ...fixed });
    } else if (c.op === 'file') {
      iopt.mapFile({ process, file: this.file, start: c.at * HALF, length, prot: 3 });
    } else if (c.op === 'copy') {
      other.mapPages(iopt.getPages(iova, length), length, c.prot, 0x10000 + c.to * HALF);
    } else if (c.op === 'unmap') iopt.unmap(iova, length);
    else if (c.op === 'domain' && iopt.domains.length < 3) {
      addDomain(iopt, new TestDomain(c.granule), `HWPT ${this.domains++}`);
    } else if (c.op === 'undomain') {
      const entry = iopt.domains[c.which];
      if (entry) removeDomain(iopt, entry.domain);
    } else if (c.op === 'pin') this.pin(iopt, iova, length, c.write);
    else if (c.op === 'unpin') {
      const pin = this.pins[c.which];
      if (pin) this.unpin(pin);
    } else if (c.op === 'munmap') process.munmap(VA + (c.va >> 1) * 4096, c.n * 4096);
    else if (c.op === 'mmap') {
      const pages = Math.min(c.n, PAGES - (c.va >> 1));
      process.mmap({
        addr: VA + (c.va >> 1) * 4096,
        length: pages * 4096,
        prot: RW,
        flags: ANON | 0x10,
      });
    } else if (c.op === 'cut') cutAreas(iopt, [iova - 1]);
    else if (c.op === 'large') setLargePages(iopt, c.enable);
  }

  /** Take everything down; nothing may be left. */
  end(): void {
    this.all.context.shouldFail = () => false;
    for (const iopt of this.iopts) {
      iopt.unmapAll();
      for (const { domain } of [...iopt.domains]) removeDomain(iopt, domain);
    }
    expect(this.pins).toEqual([]);
    const { process, memory, free } = this.all;
    expect(process.pinnedPages).toBe(0);
    this.file.release();
    process.exit();
    expect(memory.freePageCount).toBe(free);
  }
}

describe('any sequence of calls (property)', () => {
  it('keeps pins, frames, charges and domains in step, and leaks nothing', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 40 }), (commands) => {
        const world = new World();
        for (const c of commands) {
          const before = world.snapshot();
          const code = codeOf(() => world.run(c));
          if (code !== 'ok' && c.op !== 'unmap') expect(world.snapshot()).toBe(before);
          audit(world.iopts, [world.all.process], world.held);
        }
        world.end();
      }),
      { numRuns: 250 },
    );
  });

  it('every allocation failed in turn: the call is refused, nothing changes, nothing leaks', () => {
    fc.assert(
      fc.property(
        fc.array(command, { minLength: 5, maxLength: 25 }),
        fc.nat(60),
        (commands, nth) => {
          const world = new World();
          let left = nth;
          let failed = false;
          world.all.context.shouldFail = () => {
            failed = left-- === 0;
            return failed;
          };
          for (const c of commands) {
            const before = world.snapshot();
            failed = false;
            const code = codeOf(() => world.run(c));
            if (failed && c.op !== 'unmap') {
              expect(code).toBe('ENOMEM');
              expect(world.snapshot()).toBe(before);
            }
            audit(world.iopts, [world.all.process], world.held);
          }
          world.end();
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('fail-nth sweep: one script, each allocation in turn', () => {
  /** Returns the number of allocations that were asked for. */
  const script = (failAt: number): number => {
    const world = new World();
    const { process, context, memory } = world.all;
    const [a, b] = world.iopts as [IoPagetable, IoPagetable];
    const frames = memory.freePageCount;
    let asked = 0;
    context.shouldFail = () => asked++ === failAt;
    const step = (run: () => unknown): boolean => {
      const before = world.snapshot();
      const seen = asked;
      const code = codeOf(run);
      const hit = failAt >= seen && failAt < asked;
      expect(code).toBe(hit ? 'ENOMEM' : 'ok');
      if (hit) expect(world.snapshot()).toBe(before);
      audit(world.iopts, [process], world.held);
      return !hit;
    };
    const list = new AllowedListBuilder(context.shouldFail);
    const steps = [
      () => list.add(0x1000, 0xffff_ffff),
      () => a.reserve({ start: 2 ** 40, last: 2 ** 41, owner: 1, label: 'a window' }),
      () => a.setAllowed(list.build()),
      () => a.mapUser({ process, userVa: VA, length: 0x4000, prot: 3, iova: 0x10000 }),
      () => a.mapUser({ process, userVa: VA + 0x4000, length: 0x2000, prot: 3, iova: 0x14000 }),
      () => addDomain(a, new TestDomain(11), 'HWPT 1'),
      () => a.mapFile({ process, file: world.file, start: 0, length: 0x3000, prot: 3 }),
      () => addDomain(a, new TestDomain(12), 'HWPT 2'),
      () => b.mapPages(a.getPages(0x11000, 0x4000), 0x4000, 3, 0x20000),
      () => world.pin(b, 0x21000, 0x2000, true),
      () => addDomain(b, new TestDomain(12, 0, 2 ** 40 - 1), 'HWPT 3'),
      () => world.pin(a, 0x12000, 0x3000, true),
      () => setLargePages(new IoPagetable(context), false),
    ];
    for (const run of steps) if (!step(run)) break;
    world.end();
    expect(frames).toBe(world.all.free);
    return asked;
  };

  it('refuses with ENOMEM each time and leaks no pin, frame, area or reservation', () => {
    const total = script(-1);
    expect(total).toBeGreaterThan(25);
    for (let nth = 0; nth < total; nth++) script(nth);
  });
});
