/**
 * Lets each allocation of a call fail in turn, and the page-table pool run out page by page.
 *
 * @linux tools/testing/selftests/iommu/iommufd_fail_nth.c
 */
import { exitProcess, type PagingDomain, PROT } from '@iommukit/core';
import { expect } from 'vitest';
import { type Fingerprint, fingerprint } from './fingerprint.ts';
import { attempt, createWorld, type Outcome, type Platform, type World } from './world.ts';

/** A call whose allocations fail. */
export interface Family {
  /** What is called. */
  readonly name: string;
  /** Drivers it makes sense on; default both. */
  readonly platform?: Platform['name'];
  /** The context serves devices without IOMMU. */
  readonly noiommu?: true;
  /**
   * What must be there before; nothing fails yet.
   *
   * @returns the call, which may be made more than once
   */
  prepare(world: World): () => unknown;
  /**
   * Linux allocates nothing on this way, or nothing with these drivers: it must work while every
   * allocation fails.
   */
  readonly allocatesNothing?: true | readonly Platform['name'][];
  /** Memory of the driver that stays with a device once it was needed, such as PASID tables. */
  readonly keepsDriverFrames?: true;
  /** User pages or pages of files that come to be and stay, whether the call fails or not. */
  readonly touchesPages?: true;
}

interface Prepared {
  readonly world: World;
  readonly call: () => unknown;
  readonly before: Fingerprint;
}

const prepare = (family: Family, platform: Platform): Prepared => {
  const world = createWorld(platform, family.noiommu ? { noiommu: true } : {});
  const call = family.prepare(world);
  return { world, call, before: comparable(family, fingerprint(world)) };
};

/** A fingerprint without what may stay behind. */
const comparable = (family: Family, found: Fingerprint): Fingerprint => {
  const { drivers, owners, pins } = found.frames;
  return {
    ...found,
    frames: {
      pins,
      drivers: family.keepsDriverFrames ? 0 : drivers,
      owners: family.touchesPages ? 0 : owners,
    },
  };
};

/** Equal as text first: comparing structures takes longer than making them. */
const expectSame = (found: Fingerprint, expected: Fingerprint): void => {
  if (JSON.stringify(found) !== JSON.stringify(expected)) expect(found).toEqual(expected);
};

/** The process ends: every object, pin, charge, descriptor and frame must be given back. */
const closeAndCheck = (world: World): void => {
  const { context, process, machine, nic, freeFrames, others, endpoints, atEnd } = world;
  for (const last of atEnd.reverse()) last();
  for (const other of others) exitProcess(other);
  const buried = context.objects.all().filter(({ kind }) => kind === 'VDEVICE').length;
  exitProcess(process);
  expect(context.objects.all()).toEqual([]);
  // A vDEVICE whose device is unbound leaves its id behind, as in Linux.
  expect(context.objects.idsInUse.length).toBeLessThanOrEqual(buried);
  expect([...context.groups]).toEqual([]);
  expect([process.pinnedPages, process.lockedPages, process.user.lockedPages]).toEqual([0, 0, 0]);
  for (const endpoint of [nic, ...endpoints]) machine.removeEndpoint(endpoint);
  expect(machine.endpoints).toEqual([]);
  expect(machine.memory.freePageCount).toBe(freeFrames);
};

/** What a call does that nothing disturbs. */
interface Reference {
  readonly outcome: Outcome;
  readonly after: Fingerprint;
}

const runUndisturbed = (family: Family, platform: Platform): Reference => {
  const { world, call } = prepare(family, platform);
  const outcome = attempt(call);
  const after = comparable(family, fingerprint(world));
  closeAndCheck(world);
  expect(outcome.code).toBe('ok');
  return { outcome, after };
};

/** The call has failed: nothing has changed, and it works now. */
const checkFailure = (
  family: Family,
  { world, call, before }: Prepared,
  outcome: Outcome,
  reference: Reference,
): void => {
  expect(outcome).toEqual({ code: 'ENOMEM' });
  expectSame(comparable(family, fingerprint(world)), before);
  expect(attempt(call)).toEqual(reference.outcome);
  expectSame(comparable(family, fingerprint(world)), reference.after);
};

/**
 * Let the 1st, 2nd, ... allocation fail until there is none left.
 *
 * @returns where allocations were let fail
 */
export const sweepAllocations = (family: Family, platform: Platform): string[] => {
  const reference = runUndisturbed(family, platform);
  const sites: string[] = [];
  for (let nth = 1; ; nth++) {
    const prepared = prepare(family, platform);
    const { memory } = prepared.world.machine;
    let asked = 0;
    let failedAt: string | undefined;
    memory.shouldFail = (site) => {
      asked++;
      if (asked === nth) failedAt = site;
      return asked === nth;
    };
    const outcome = attempt(prepared.call);
    memory.shouldFail = undefined;
    if (failedAt === undefined) {
      closeAndCheck(prepared.world);
      return sites;
    }
    sites.push(failedAt);
    // Frames have a second chance: a large run that is not there is taken in smaller pieces.
    const madeDo = failedAt === 'frames' && outcome.code === 'ok';
    if (!madeDo) checkFailure(family, prepared, outcome, reference);
    closeAndCheck(prepared.world);
  }
};

/** A call that allocates nothing works without any memory. */
export const checkWithoutMemory = (family: Family, platform: Platform): void => {
  const reference = runUndisturbed(family, platform);
  const { world, call } = prepare(family, platform);
  world.machine.memory.shouldFail = () => true;
  const outcome = attempt(call);
  world.machine.memory.shouldFail = undefined;
  expect(outcome).toEqual(reference.outcome);
  expectSame(comparable(family, fingerprint(world)), reference.after);
  closeAndCheck(world);
};

const LEAF_TABLE_PAGES = 512;
const READ_WRITE = PROT.READ | PROT.WRITE;
const ENOMEM = -12;

/** A domain that takes every page the pool has left: whole leaf tables, each a page. */
class PoolFiller {
  readonly #domain: PagingDomain;
  /** Leaf tables it holds. */
  count = 0;

  constructor({ unit, nic }: World) {
    this.#domain = unit.allocPaging(nic, { flags: 0 });
    // Frames from 1 on: no large page can take the place of a leaf table.
    const run = Float64Array.of(1, LEAF_TABLE_PAGES);
    let result = 0;
    while (result === 0) {
      result = this.#domain.mapRuns(this.count * LEAF_TABLE_PAGES, run, 1, READ_WRITE);
      if (result === 0) this.count++;
    }
    expect(result).toBe(ENOMEM);
  }

  /** Give some of the tables back. */
  leave(tables: number): void {
    this.#domain.unmap(0, tables * LEAF_TABLE_PAGES);
    this.#domain.sync();
  }

  /** Give everything back. */
  free(): void {
    this.#domain.free();
  }
}

/** Tables that fit into the pool. */
const poolCapacity = (world: World): number => {
  const filler = new PoolFiller(world);
  filler.free();
  return filler.count;
};

/**
 * Leave 0, 1, 2, ... pages in the pool of page tables until the call works. A map that is taken
 * back may leave empty tables in its domain, which go with it, as in Linux.
 *
 * @returns how often it failed
 */
export const sweepTablePool = (family: Family, platform: Platform): number => {
  const reference = runUndisturbed(family, platform);
  const capacity = poolCapacity(createWorld(platform));
  for (let pages = 0; ; pages++) {
    const prepared = prepare(family, platform);
    const { world } = prepared;
    const filler = new PoolFiller(world);
    if (pages > 0) filler.leave(pages);
    const outcome = attempt(prepared.call);
    if (outcome.code === 'ENOMEM') {
      expectSame(comparable(family, fingerprint(world)), prepared.before);
    }
    filler.free();
    if (outcome.code === 'ENOMEM') checkFailure(family, prepared, outcome, reference);
    else expect(outcome).toEqual(reference.outcome);
    closeAndCheck(world);
    expect(poolCapacity(world)).toBe(capacity);
    if (outcome.code === 'ok') return pages;
  }
};
