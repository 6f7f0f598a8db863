/**
 * Follows what the parts of a unit read, from outside: each part gets a view of memory of its own,
 * and the start of each walk is noted. Units that nobody follows are built without any of it.
 */
import type { Layout } from '@iommukit/bits';
import { CD, L1CD } from '../spec/context-descriptor.ts';
import { EVENT_CLASS } from '../spec/events.ts';
import { L1STD, S1_FMT, STE } from '../spec/stream-table-entry.ts';
import {
  DESCRIPTOR_TYPE,
  S1_LEAF,
  S2_LEAF,
  TABLE_DESCRIPTOR,
} from '../spec/translation-descriptor.ts';
import type { Stage1Config, Stage2Config, StreamConfig } from './configuration.ts';
import { type HardwareMemory, type HardwareRegion, swapBytes } from './memory.ts';
import { Stage1Walker } from './stage1-walker.ts';
import { Stage2Walker } from './stage2-walker.ts';
import { StreamTable } from './stream-table.ts';
import type { TraceSink } from './trace.ts';
import type { UnitState } from './unit-state.ts';

const LAST_LEVEL = 3;
const DESCRIPTOR_DWORDS = 2;
const BIT_55_FRAMES = 2 ** 43;

const PURPOSE: Readonly<Record<number, string>> = {
  [EVENT_CLASS.CD]: 'of the context descriptor',
  [EVENT_CLASS.TT]: 'of a stage 1 descriptor',
  [EVENT_CLASS.IN]: 'of the address',
};

/** Tells a sink which structure each read of a unit's parts is. */
export class ReadFollower {
  /** Where the steps go. */
  sink: TraceSink | undefined;
  readonly #memory: HardwareMemory;
  readonly #state: UnitState;
  /** Configuration structures of the fetch that is under way, in their order. */
  #configuration: Layout[] = [];
  #stage1 = { level: 0, last: -1, bigEndian: false };
  #stage2 = { level: 0, purpose: '', bigEndian: false };

  /** @param memory what the parts shall read */
  constructor(memory: HardwareMemory, state: UnitState) {
    this.#memory = memory;
    this.#state = state;
  }

  /** Memory for the stream table. */
  readonly configurationMemory: HardwareMemory = {
    regionAt: (pa) => {
      const layout = this.#configuration.shift() ?? CD;
      return this.#seen(layout, pa, layout.words, 'configuration');
    },
  };

  /** Memory for the stage-1 walker. */
  readonly stage1Memory: HardwareMemory = {
    regionAt: (pa) => {
      const walk = this.#stage1;
      // Compared again before an update, which is no step of the walk.
      if (pa === walk.last) return this.#memory.regionAt(pa);
      if (walk.last >= 0) walk.level++;
      walk.last = pa;
      const layout = this.#descriptorAt(pa, walk.level, walk.bigEndian, S1_LEAF);
      return this.#seen(
        layout,
        pa,
        DESCRIPTOR_DWORDS,
        `stage 1, level ${walk.level}`,
        walk.bigEndian,
      );
    },
  };

  /** Memory for the stage-2 walker. */
  readonly stage2Memory: HardwareMemory = {
    regionAt: (pa) => {
      const { level, purpose, bigEndian } = this.#stage2;
      this.#stage2.level++;
      const layout = this.#descriptorAt(pa, level, bigEndian, S2_LEAF);
      return this.#seen(
        layout,
        pa,
        DESCRIPTOR_DWORDS,
        `stage 2, level ${level}, ${purpose}`,
        bigEndian,
      );
    },
  };

  /** An STE is about to be fetched. */
  streamStarts(): void {
    this.#configuration = this.#state.streamTwoLevel ? [L1STD, STE] : [STE];
  }

  /** A CD is about to be fetched. */
  contextStarts({ cdMax, cdFormat }: StreamConfig): void {
    const linear = cdMax === 0 || cdFormat === S1_FMT.LINEAR;
    this.#configuration = linear ? [CD] : [L1CD, CD];
  }

  /** A walk of stage 1 starts. */
  stage1Starts({ lower, upper, bigEndian }: Stage1Config, pfn: number): void {
    const half = Math.floor(pfn / BIT_55_FRAMES) % 2 === 1 ? upper : lower;
    this.#stage1 = { level: half?.startLevel ?? LAST_LEVEL, last: -1, bigEndian };
  }

  /** A walk of stage 2 starts. */
  stage2Starts({ startLevel, bigEndian }: Stage2Config, eventClass: number): void {
    const purpose = PURPOSE[eventClass] ?? '';
    this.#stage2 = { level: startLevel, purpose, bigEndian };
  }

  /** A descriptor is a leaf at the last level, and where it says so. */
  #descriptorAt(pa: number, level: number, bigEndian: boolean, leaf: Layout): Layout {
    const region = this.#memory.regionAt(pa);
    if (region === undefined || level >= LAST_LEVEL) return leaf;
    const at = (pa - region.base) >>> 2;
    const type = ((region.i32[at + (bigEndian ? 1 : 0)] as number) >>> (bigEndian ? 24 : 0)) & 3;
    return type === DESCRIPTOR_TYPE.TABLE_OR_PAGE ? TABLE_DESCRIPTOR : leaf;
  }

  #seen(
    layout: Layout,
    pa: number,
    count: number,
    what: string,
    bigEndian = false,
  ): HardwareRegion | undefined {
    const region = this.#memory.regionAt(pa);
    if (region === undefined) {
      this.sink?.busError(layout, pa);
      return undefined;
    }
    const at = (pa - region.base) >>> 2;
    const words = Uint32Array.from({ length: count }, (_, n) => region.i32[at + n] as number);
    this.sink?.read(layout, pa, bigEndian ? swapped(words) : words, what);
    return region;
  }
}

/** The value of a big-endian descriptor. */
const swapped = ([first = 0, second = 0]: Uint32Array): Uint32Array =>
  Uint32Array.of(swapBytes(second), swapBytes(first));

/** A stage-1 walker that says when it starts. */
export class FollowedStage1Walker extends Stage1Walker {
  readonly #follower: ReadFollower;

  constructor(follower: ReadFollower, ...rest: Tail<ConstructorParameters<typeof Stage1Walker>>) {
    super(follower.stage1Memory, ...rest);
    this.#follower = follower;
  }

  override walk(...request: Parameters<Stage1Walker['walk']>): boolean {
    this.#follower.stage1Starts(request[0], request[1]);
    return super.walk(...request);
  }
}

/** A stage-2 walker that says when it starts. */
export class FollowedStage2Walker extends Stage2Walker {
  readonly #follower: ReadFollower;

  constructor(follower: ReadFollower, ...rest: Tail<ConstructorParameters<typeof Stage2Walker>>) {
    super(follower.stage2Memory, ...rest);
    this.#follower = follower;
  }

  override walk(...request: Parameters<Stage2Walker['walk']>): boolean {
    this.#follower.stage2Starts(request[0], request[3]);
    return super.walk(...request);
  }
}

/** A stream table that says what it is about to read. */
export class FollowedStreamTable extends StreamTable {
  readonly #follower: ReadFollower;

  constructor(follower: ReadFollower, ...rest: Tail<ConstructorParameters<typeof StreamTable>>) {
    super(follower.configurationMemory, ...rest);
    this.#follower = follower;
  }

  override fetchStream(sid: number): StreamConfig | undefined {
    this.#follower.streamStarts();
    return super.fetchStream(sid);
  }

  override fetchContext(stream: StreamConfig, index: number): Stage1Config | undefined {
    this.#follower.contextStarts(stream);
    return super.fetchContext(stream, index);
  }
}

type Tail<T extends readonly unknown[]> = T extends readonly [unknown, ...infer R] ? R : never;
