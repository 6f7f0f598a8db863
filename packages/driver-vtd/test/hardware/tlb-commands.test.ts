/** What each command removes from the caches, against a filter over the list of all entries. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Iotlb, type IotlbEntry, sourceOf, spreadOf, TLB } from '../../src/hardware/iotlb.ts';
import { PasidCache } from '../../src/hardware/pasid-cache.ts';

const DIDS = 3;
const PASIDS = 2;
const did = fc.nat({ max: DIDS - 1 });
const pasid = fc.nat({ max: PASIDS - 1 });
/** Mostly close together, sometimes in other gigabytes. */
const pfn = fc.oneof(
  { weight: 6, arbitrary: fc.nat({ max: 20 }) },
  { weight: 2, arbitrary: fc.nat({ max: 2000 }) },
  fc.nat({ max: 0x10_0000 }),
  fc.nat({ max: 2 ** 52 - 1 }),
);
const am = fc.oneof({ weight: 4, arbitrary: fc.nat({ max: 3 }) }, fc.nat({ max: 52 }));

const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      op: fc.constant('insert' as const),
      did,
      pasid,
      pfn,
      pgtt: fc.constantFrom(0, 1, 2, 3),
      sizeLg2: fc.constantFrom(12, 12, 12, 21, 30),
      rid: fc.nat({ max: 9 }),
    }),
  },
  fc.record({ op: fc.constant('domain' as const), did }),
  fc.record({ op: fc.constant('pages' as const), did, pfn, am }),
  fc.record({ op: fc.constant('pasid' as const), did, pasid }),
  fc.record({ op: fc.constant('pasidPages' as const), did, pasid, pfn, am }),
  fc.record({ op: fc.constant('all' as const) }),
  fc.record({ op: fc.constant('snapshot' as const) }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const firstStage = ({ meta }: IotlbEntry) => (meta & 0x10) !== 0;
function inRange({ iovaPfn, pageLg2 }: IotlbEntry, at: number, mask: number): boolean {
  const start = Math.floor(at / 2 ** mask) * 2 ** mask;
  return iovaPfn < start + 2 ** mask && iovaPfn + 2 ** (pageLg2 - 12) > start;
}

/** Whether a command must remove an entry. */
function goes(entry: IotlbEntry, command: Step): boolean {
  if (command.op === 'all') return true;
  if (command.op === 'insert' || command.op === 'snapshot' || entry.did !== command.did)
    return false;
  if (command.op === 'domain') return true;
  if (command.op === 'pages') return firstStage(entry) || inRange(entry, command.pfn, command.am);
  if (entry.pasid !== command.pasid) return false;
  return command.op === 'pasid' || (firstStage(entry) && inRange(entry, command.pfn, command.am));
}

function insert(tlb: Iotlb, command: Extract<Step, { op: 'insert' }>): void {
  const { rid, pgtt, sizeLg2 } = command;
  const page = Math.floor(command.pfn / 2 ** (sizeLg2 - 12));
  const source = sourceOf(rid, command.pasid, 0);
  const meta = TLB.GOOD | TLB.R | (pgtt << TLB.PGTT_SHIFT);
  const spread = spreadOf(rid, command.pasid);
  tlb.arrayFor(sizeLg2).insert(source, spread, page, 1, meta, command.did, command.pasid);
}

function run(tlb: Iotlb, command: Step): number | undefined {
  if (command.op === 'insert') insert(tlb, command);
  if (command.op === 'snapshot') tlb.restore(tlb.snapshot());
  if (command.op === 'all') return tlb.invalidateAll();
  if (command.op === 'domain') return tlb.invalidateDomain(command.did);
  if (command.op === 'pages') return tlb.invalidatePages(command.did, command.pfn, command.am);
  if (command.op === 'pasid') return tlb.invalidatePasid(command.did, command.pasid);
  if (command.op === 'pasidPages')
    return tlb.invalidatePasidPages(command.did, command.pasid, command.pfn, command.am);
  return undefined;
}

describe('IOTLB commands (VT-d 6.5.2, table E.2)', () => {
  it.each([4, 7])('remove exactly what they name, 2^%i entries', (entriesLg2) => {
    let dropped = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 60, maxLength: 120 }), (steps) => {
        const tlb = new Iotlb(entriesLg2);
        for (const command of steps) {
          const before = tlb.entries();
          const removed = run(tlb, command);
          if (command.op === 'insert') continue;
          const left = before.filter((entry) => !goes(entry, command));
          expect(tlb.entries()).toEqual(left);
          if (removed !== undefined) expect(removed).toBe(before.length - left.length);
          dropped += removed ?? 0;
        }
      }),
      { numRuns: 150 },
    );
    expect(dropped).toBeGreaterThan(500);
  });
});

describe('PASID cache commands (VT-d 6.5.2.2)', () => {
  const action = fc.record({
    op: fc.constantFrom('keep', 'keep', 'keep', 'keep', 'domain', 'pasid', 'all', 'snapshot'),
    did,
    pasid,
    rid: fc.nat({ max: 0xffff }),
  });

  it('remove exactly what they name, also when sets overflow', () => {
    fc.assert(
      fc.property(fc.array(action, { minLength: 60, maxLength: 200 }), (actions) => {
        const cache = new PasidCache();
        const list = () =>
          cache.entries().map(({ place, ...tag }) => ({ ...tag, did: cache.did[place] }));
        // Requesters that share a set, so that some entries push others out.
        const crowd = Array.from({ length: 0x1_0000 }, (_, rid) => rid).filter(
          (rid) => Math.imul(rid, 0x9e37_79b1) >>> 27 === 0,
        );
        for (const one of actions) {
          const before = list();
          if (one.op === 'keep') {
            const rid = crowd[one.rid % 40] as number;
            cache.keep(cache.placeFor(rid, one.pasid), 1, one.did, 2, 3);
            expect(list()).toContainEqual({ rid, pasid: one.pasid, did: one.did });
            continue;
          }
          if (one.op === 'all') cache.invalidateAll();
          if (one.op === 'domain') cache.invalidateDomain(one.did);
          if (one.op === 'pasid') cache.invalidatePasid(one.did, one.pasid);
          if (one.op === 'snapshot') cache.restore(cache.snapshot());
          const stays = (entry: (typeof before)[0]) =>
            one.op === 'snapshot' ||
            (one.op === 'domain' && entry.did !== one.did) ||
            (one.op === 'pasid' && (entry.did !== one.did || entry.pasid !== one.pasid));
          expect(list()).toEqual(before.filter(stays));
        }
      }),
      { numRuns: 100 },
    );
  });
});
