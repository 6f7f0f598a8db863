/**
 * The parts of a unit that a sanitizer watches: they do what the others do, and say so.
 */
import type { AtsCompletion } from '@iommukit/core';
import type { IotlbEntry } from '@iommukit/pgtable-fast';
import { AtsService } from './ats.ts';
import type { CacheAccess, Caches, ConfigCache } from './caches.ts';
import type { CommandWatcher } from './command-queue.ts';
import type { Stage1Config, StreamConfig } from './configuration.ts';
import type { DevicePort } from './device-commands.ts';
import { ReadFollower } from './read-follower.ts';
import { createRequestParts, type RequestPartsOptions } from './request-parts.ts';
import type { Sanitizer } from './sanitizer.ts';
import { describeCommand } from './sanitizer-due.ts';
import type { LoggedCommand } from './sanitizer-findings.ts';
import { Translator, type TranslatorParts } from './translate.ts';

const MISS = -1;

/** Caches that tell a sanitizer of every use and every fill. */
const watchedCaches = (caches: Caches, sanitizer: Sanitizer): CacheAccess => {
  const { tlb } = caches;
  const find = (source: number, asid: number, pfn: number, need: number): number => {
    const slot = tlb.find(source, asid, pfn, need);
    if (slot >= 0) sanitizer.used(tlb.describe(slot) as IotlbEntry, pfn, need);
    return slot;
  };
  return {
    knowsGlobalPages: caches.knowsGlobalPages,
    streams: watchedConfiguration<StreamConfig>(caches.streams, sanitizer),
    contexts: watchedConfiguration<Stage1Config>(caches.contexts, sanitizer),
    tlb: {
      find,
      describe: (slot) => tlb.describe(slot),
      lookup: (source, asid, pfn, need) => {
        const slot = find(source, asid, pfn, need);
        const entry = slot < 0 ? undefined : tlb.describe(slot);
        return entry === undefined ? MISS : entry.outPfn + (pfn - entry.iovaPfn);
      },
      insert: (...entry) => {
        const slot = tlb.insert(...entry);
        const made = tlb.describe(slot);
        if (made !== undefined) sanitizer.filled(made);
        return slot;
      },
    },
  };
};

const watchedConfiguration = <T extends StreamConfig | Stage1Config>(
  cache: ConfigCache<T>,
  sanitizer: Sanitizer,
): Pick<ConfigCache<T>, 'get' | 'set'> => ({
  get: (sid, index) => {
    const value = cache.get(sid, index);
    if (value !== undefined) sanitizer.configurationUsed(sid, index, value);
    return value;
  },
  set: (sid, index, value) => {
    cache.set(sid, index, value);
    sanitizer.configured(sid, index, value);
  },
});

/** The parts of a unit, watched. */
export const watchedParts = (
  unit: Omit<RequestPartsOptions, 'caches' | 'follower'>,
  caches: Caches,
  sanitizer: Sanitizer,
): TranslatorParts => {
  const follower = new ReadFollower(unit.memory, unit.state);
  follower.sink = sanitizer;
  return createRequestParts({ ...unit, caches: watchedCaches(caches, sanitizer), follower });
};

/** Tells a sanitizer of the commands that invalidate something. */
export const commandWatcher = (sanitizer: Sanitizer): CommandWatcher => {
  let command: LoggedCommand | undefined;
  return {
    starts: (words) => {
      command = describeCommand(words);
      if (command !== undefined) sanitizer.commandStarts(command);
    },
    done: () => {
      if (command !== undefined) sanitizer.commandDone(command);
    },
  };
};

/** A bus on which the sanitizer hears what devices have dropped. */
export const watchedBus = (bus: DevicePort, sanitizer: Sanitizer): DevicePort => ({
  ...(bus.deliverPageResponse && {
    deliverPageResponse: (response) => bus.deliverPageResponse?.(response),
  }),
  ...(bus.invalidateDeviceTlb && {
    invalidateDeviceTlb: (rid, pasid, pfn, sizeLg2, global) => {
      const answer = bus.invalidateDeviceTlb?.(rid, pasid, pfn, sizeLg2, global) ?? 0;
      if (answer === 0) sanitizer.deviceInvalidated(rid, pasid, pfn, sizeLg2);
      return answer;
    },
  }),
});

/** Untranslated requests under watch. */
export class WatchedTranslator extends Translator {
  readonly #sanitizer: Sanitizer;

  constructor(parts: TranslatorParts, sanitizer: Sanitizer) {
    super(parts);
    this.#sanitizer = sanitizer;
  }

  override translate(
    sid: number,
    ssid: number,
    pfn: number,
    access: number,
    offset: number,
  ): number {
    const outer = this.#sanitizer.begin(sid, ssid);
    try {
      return super.translate(sid, ssid, pfn, access, offset);
    } finally {
      this.#sanitizer.end(outer);
    }
  }
}

/** ATS under watch. */
export class WatchedAtsService extends AtsService {
  readonly #sanitizer: Sanitizer;

  constructor(parts: TranslatorParts, sanitizer: Sanitizer) {
    super(parts);
    this.#sanitizer = sanitizer;
  }

  override translationRequest(
    sid: number,
    ssid: number,
    pfn: number,
    access: number,
    completion: AtsCompletion,
  ): void {
    const outer = this.#sanitizer.begin(sid, ssid);
    try {
      super.translationRequest(sid, ssid, pfn, access, completion);
      if (completion.read === 0 && completion.write === 0) return;
      const { pfn: frame, sizeLg2, write } = completion;
      const granted = write === 1 ? access : access & ~2;
      this.#sanitizer.granted(sid, { ssid, iovaPfn: pfn, access: granted, pfn: frame, sizeLg2 });
    } finally {
      this.#sanitizer.end(outer);
    }
  }

  override translated(sid: number, pfn: number, access: number): number {
    const outer = this.#sanitizer.begin(sid, -1);
    try {
      this.#sanitizer.usedByDevice(sid, pfn, access);
      return super.translated(sid, pfn, access);
    } finally {
      this.#sanitizer.end(outer);
    }
  }
}
