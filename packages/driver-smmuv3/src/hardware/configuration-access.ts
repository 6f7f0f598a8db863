/**
 * Which configuration a request has: its STE and its CD, out of the caches or out of memory. Every
 * kind of request asks here.
 *
 * @spec SMMUv3 3.3, 3.9 (substreams), 3.21 (caching of configuration)
 */
import { EVENT } from '../spec/events.ts';
import { S1_DSS, STE_CONFIG } from '../spec/stream-table-entry.ts';
import { type CacheAccess, NO_INDEX } from './caches.ts';
import type { Stage1Config, StreamConfig } from './configuration.ts';
import { type Fault, setFault, TERMS } from './faults.ts';
import type { StreamTable } from './stream-table.ts';

/** CD index of requests that stage 1 does not translate. */
export const STAGE1_BYPASS = -2;
/** CD index of requests that may not be made; the fault says why. */
export const REFUSED = -3;

/** Looks configuration up, and fetches what is not cached. */
export class ConfigurationAccess {
  readonly #caches: CacheAccess;
  readonly #table: StreamTable;
  readonly #fault: Fault;

  /** @param fault filled when there is no configuration */
  constructor(caches: CacheAccess, table: StreamTable, fault: Fault) {
    this.#caches = caches;
    this.#table = table;
    this.#fault = fault;
  }

  /** The STE of a stream; undefined with the fault set. @hot */
  stream(sid: number): StreamConfig | undefined {
    return this.#caches.streams.get(sid, NO_INDEX) ?? this.#fetchStream(sid);
  }

  /**
   * Which CD a request uses: a number, {@link STAGE1_BYPASS}, or {@link REFUSED} with the fault
   * set. @hot
   */
  contextIndex(stream: StreamConfig, ssid: number): number {
    const { config, cdMax, defaultSubstream } = stream;
    const usesStage1 = config === STE_CONFIG.S1 || config === STE_CONFIG.NESTED;
    if (ssid >= 0) {
      if (!usesStage1 || cdMax === 0 || ssid >= 2 ** cdMax)
        return this.#refuse(EVENT.C_BAD_SUBSTREAMID);
      const reserved = ssid === 0 && defaultSubstream === S1_DSS.SSID0;
      return reserved ? this.#refuse(EVENT.F_STREAM_DISABLED) : ssid;
    }
    if (!usesStage1) return STAGE1_BYPASS;
    if (cdMax === 0 || defaultSubstream === S1_DSS.SSID0) return 0;
    if (defaultSubstream === S1_DSS.BYPASS) return STAGE1_BYPASS;
    return this.#refuse(EVENT.F_STREAM_DISABLED);
  }

  /** A CD of a stream; undefined with the fault set. @hot */
  context(stream: StreamConfig, sid: number, index: number): Stage1Config | undefined {
    return this.#caches.contexts.get(sid, index) ?? this.#fetchContext(stream, sid, index);
  }

  #refuse(code: number): number {
    setFault(this.#fault, code, false, 0, 0, TERMS.RECORD);
    return REFUSED;
  }

  #fetchStream(sid: number): StreamConfig | undefined {
    const stream = this.#table.fetchStream(sid);
    if (stream !== undefined) this.#caches.streams.set(sid, NO_INDEX, stream);
    return stream;
  }

  #fetchContext(stream: StreamConfig, sid: number, index: number): Stage1Config | undefined {
    const context = this.#table.fetchContext(stream, index);
    if (context !== undefined) this.#caches.contexts.set(sid, index, context);
    return context;
  }
}
