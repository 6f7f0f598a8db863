/**
 * The parts that serve requests, wired up: those of a unit, and the same again for looking at one.
 */
import { BLOCKED } from '@iommukit/core';
import type { CacheAccess } from './caches.ts';
import type { Features } from './capabilities.ts';
import { ConfigurationAccess } from './configuration-access.ts';
import { createFault } from './faults.ts';
import type { HardwareMemory } from './memory.ts';
import {
  FollowedStage1Walker,
  FollowedStage2Walker,
  FollowedStreamTable,
  type ReadFollower,
} from './read-follower.ts';
import { Stage1Walker } from './stage1-walker.ts';
import { Stage2Walker } from './stage2-walker.ts';
import { Stages } from './stages.ts';
import { StreamTable } from './stream-table.ts';
import type { TranslatorParts } from './translate.ts';
import type { UnitState } from './unit-state.ts';

/** What the parts are made of. */
export interface RequestPartsOptions {
  readonly memory: HardwareMemory;
  readonly state: UnitState;
  readonly features: Features;
  readonly caches: CacheAccess;
  readonly events: TranslatorParts['events'];
  /** Keeps stalled requests; default: they are blocked. */
  readonly stalls?: TranslatorParts['stalls'] | undefined;
  /** Whether a result covers contiguous groups; default no. */
  readonly contiguousGroups?: boolean | undefined;
  /** Follows every read; the parts read what it reads. */
  readonly follower?: ReadFollower | undefined;
}

const NO_STALLS: TranslatorParts['stalls'] = {
  takeCurrent: () => undefined,
  stall: () => BLOCKED,
};

/** Wire them up. */
export const createRequestParts = (options: RequestPartsOptions): TranslatorParts => {
  const { memory, state, features, caches, events, follower } = options;
  const fault = createFault();
  const grouped = options.contiguousGroups ?? false;
  const stage2 = follower
    ? new FollowedStage2Walker(follower, fault, grouped)
    : new Stage2Walker(memory, fault, grouped);
  const stage1 = follower
    ? new FollowedStage1Walker(follower, fault, stage2, grouped)
    : new Stage1Walker(memory, fault, stage2, grouped);
  const table = follower
    ? new FollowedStreamTable(follower, state, features, fault, stage2)
    : new StreamTable(memory, state, features, fault, stage2);
  const configuration = new ConfigurationAccess(caches, table, fault);
  const stages = new Stages(caches, stage1, stage2);
  const stalls = options.stalls ?? NO_STALLS;
  return { state, features, caches, configuration, stages, events, stalls, fault };
};
