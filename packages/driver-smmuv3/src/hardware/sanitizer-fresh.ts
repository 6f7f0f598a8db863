/**
 * Walks beside a unit that use no cache and change nothing, and how cached things differ from them.
 */
import { hex } from '@iommukit/bits';
import { createAtsCompletion } from '@iommukit/core';
import { ENTRY_KIND, type IotlbEntry } from '@iommukit/pgtable-fast';
import { AtsService } from './ats.ts';
import type { Features } from './capabilities.ts';
import type { Stage1Config, StreamConfig } from './configuration.ts';
import { dryCaches, ShadowMemory } from './dry-run.ts';
import { faultText } from './explain-rules.ts';
import type { HardwareMemory } from './memory.ts';
import { createRequestParts } from './request-parts.ts';
import { PRIVILEGED_SHIFT, WRITE_RIGHTS } from './stage2-walker.ts';
import { stage1Source, stage2Source } from './stages.ts';
import type { TranslatorParts } from './translate.ts';
import type { UnitState } from './unit-state.ts';

/** The unit that is watched. */
export interface WatchedUnit {
  readonly memory: HardwareMemory;
  readonly state: UnitState;
  readonly features: Features;
  readonly contiguousGroups?: boolean | undefined;
}

/** How a cached translation differs from a fresh walk. */
export interface Staleness {
  readonly kind: 'stale-translation' | 'stale-dirty';
  /** What the walk says. */
  readonly fresh: string;
}

/** A translation that a device was given. */
export interface DeviceTranslation {
  readonly ssid: number;
  /** 4 KiB frame that was asked for. */
  readonly iovaPfn: number;
  readonly access: number;
  readonly pfn: number;
  readonly sizeLg2: number;
}

/** Fresh looks at the tables of one unit. */
export class FreshWalk {
  readonly #shadow: ShadowMemory;
  readonly #parts: TranslatorParts;
  readonly #ats: AtsService;

  constructor({ memory, state, features, contiguousGroups }: WatchedUnit) {
    this.#shadow = new ShadowMemory(memory);
    this.#parts = createRequestParts({
      memory: this.#shadow,
      state,
      features,
      caches: dryCaches(undefined),
      events: { record: () => undefined },
      contiguousGroups,
    });
    this.#ats = new AtsService(this.#parts);
  }

  /** The STE of a stream as it is now; undefined when it cannot be read. */
  stream(sid: number): StreamConfig | undefined {
    this.#shadow.clear();
    return this.#parts.configuration.stream(sid);
  }

  /** A CD of a stream as it is now. */
  context(stream: StreamConfig, sid: number, index: number): Stage1Config | undefined {
    this.#shadow.clear();
    return this.#parts.configuration.context(stream, sid, index);
  }

  /**
   * How a TLB entry differs from what its tables say.
   *
   * @param pfn 4 KiB frame of the entry's page
   * @param need rights that it is used for, in place
   */
  staleness(
    entry: IotlbEntry,
    stream: StreamConfig,
    context: Stage1Config | undefined,
    pfn: number,
    need: number,
  ): Staleness | undefined {
    const privileged = need >= 1 << PRIVILEGED_SHIFT;
    this.#shadow.clear();
    const { stages } = this.#parts;
    const faulted =
      entry.kind === ENTRY_KIND.SECOND_STAGE || context === undefined
        ? stages.walkStage2(stream, pfn, 0)
        : stages.walk(stream, context, pfn, 0, privileged);
    if (faulted) return { kind: 'stale-translation', fresh: faultText(this.#parts.fault) };
    const differs = stages.pfn !== entry.outPfn + (pfn - entry.iovaPfn);
    if (differs) return { kind: 'stale-translation', fresh: hex(stages.pfn * 4096) };
    if ((need & ~stages.rights) !== 0)
      return { kind: 'stale-translation', fresh: `rights ${hex(stages.rights)}` };
    const clean = (need & WRITE_RIGHTS) !== 0 && !stages.dirtyKnown;
    return clean ? { kind: 'stale-dirty', fresh: 'the page is clean' } : undefined;
  }

  /** Whether a stream still leads to an entry's tag. */
  reaches(entry: IotlbEntry, stream: StreamConfig, context: Stage1Config | undefined): boolean {
    if (entry.kind === ENTRY_KIND.SECOND_STAGE)
      return stream.stage2 !== undefined && stage2Source(stream) === entry.source;
    if (context === undefined || context.bad) return false;
    return stage1Source(stream, context) === entry.source && context.asid === entry.pasid;
  }

  /** What a translation request would be given now where it was given something else; else undefined. */
  deviceStaleness(sid: number, given: DeviceTranslation): string | undefined {
    this.#shadow.clear();
    const completion = createAtsCompletion();
    const { ssid, iovaPfn, access, pfn, sizeLg2 } = given;
    this.#ats.translationRequest(sid, ssid, iovaPfn, access, completion);
    if (completion.status !== 0) return 'the request is refused';
    if (completion.read === 0 && completion.write === 0) return 'nothing is mapped';
    const now = completion.pfn + (iovaPfn % 2 ** (completion.sizeLg2 - 12));
    if (now !== pfn + (iovaPfn % 2 ** (sizeLg2 - 12))) return hex(now * 4096);
    return (access & 2) !== 0 && completion.write === 0 ? 'read only' : undefined;
  }
}

/** Whether two decoded configurations say the same. */
export const isSameConfiguration = (
  a: StreamConfig | Stage1Config,
  b: StreamConfig | Stage1Config | undefined,
): boolean => JSON.stringify(a) === JSON.stringify(b);
