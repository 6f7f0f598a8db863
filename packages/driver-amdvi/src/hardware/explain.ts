/**
 * Replays a request as a trace: what is read, what it says, which rule decides. Nothing changes: no
 * cache, no accessed or dirty bit, no event.
 */
import {
  addressToPfn,
  decode,
  type ExplainRow,
  explain as explainLayout,
  hex,
  type Layout,
} from '@iommukit/bits';
import { ACCESS, type AtsCompletion, createAtsCompletion, type PageRequest } from '@iommukit/core';
import { EVENT, EVENT_DOC, EVENT_ENTRY } from '../spec/events.ts';
import { EventRecords } from './event-records.ts';
import type { RequestParts } from './request-parts.ts';
import { RequestCounters } from './request-parts.ts';
import { RequestEngine } from './requests.ts';
import type { TraceSink } from './trace.ts';

/** A request to explain. */
export interface ExplainRequest {
  readonly rid: number;
  /** 20 bits; default none. */
  readonly pasid?: number;
  /** Byte address, 64 bits. */
  readonly iova: number | bigint;
  /** Sum of `ACCESS` bits; default READ. */
  readonly access?: number;
  /** Default `'untranslated'`. */
  readonly kind?: 'untranslated' | 'translation' | 'translated' | 'page-request';
  /** Default true; false: walk as if every cache were empty. */
  readonly cached?: boolean;
}

/** One step of a trace. */
export type ExplainStep =
  | {
      readonly kind: 'read';
      /** What it is, in words. */
      readonly what: string;
      /** Name of the layout. */
      readonly structure: string;
      /** Byte address. */
      readonly address: number;
      /** Dwords, lowest first. */
      readonly words: readonly number[];
      readonly fields: readonly ExplainRow[];
    }
  | { readonly kind: 'bus-error'; readonly structure: string; readonly address: number }
  | {
      readonly kind: 'cache';
      readonly name: string;
      readonly hit: boolean;
      readonly detail: string;
    }
  | { readonly kind: 'rule'; readonly text: string }
  | { readonly kind: 'update'; readonly address: number; readonly bits: number };

/** A request, step by step. */
export interface Explanation {
  readonly request: ExplainRequest;
  readonly steps: readonly ExplainStep[];
  /** 4 KiB frame of the result; undefined when blocked. */
  readonly pfn: number | undefined;
  /** Code of the event that would be recorded; 0 = none. */
  readonly code: number;
  /** Name of the code in `EVENT`. */
  readonly codeName: keyof typeof EVENT | undefined;
  /** The four dwords of that event. */
  readonly event: readonly number[] | undefined;
  /** Translation requests: what the device would get. */
  readonly completion: AtsCompletion | undefined;
  /** One sentence. */
  readonly verdict: string;
}

/** Collects steps. */
class StepCollector implements TraceSink {
  readonly steps: ExplainStep[] = [];

  /** A structure was read. */
  read(layout: Layout, address: number, words: ArrayLike<number>, what: string): void {
    const unsigned = Array.from(words, (word) => word >>> 0);
    const fields = explainLayout(layout, unsigned);
    const structure = layout.name;
    this.steps.push({ kind: 'read', what, structure, address, words: unsigned, fields });
  }

  /** A step: nothing answered. */
  busError(layout: Layout, address: number): void {
    this.steps.push({ kind: 'bus-error', structure: layout.name, address });
  }

  /** A step: a cache was consulted. */
  cache(name: string, hit: boolean, detail: string): void {
    this.steps.push({ kind: 'cache', name, hit, detail });
  }

  /** A step: a rule decided. */
  rule(text: string): void {
    this.steps.push({ kind: 'rule', text });
  }
}

const CODE_NAMES = new Map(
  Object.entries(EVENT).map(([name, code]) => [code as number, name as keyof typeof EVENT]),
);

/** Explains requests with a dry engine of its own. */
export class Explainer {
  readonly #parts: RequestParts;
  readonly #engine: RequestEngine;
  #event: number[] | undefined;
  #logged = false;

  /**
   * @param parts the unit's parts, with a dry translator in place of its own
   * @param autoResponse dwords of PprAutoResponse
   */
  constructor(parts: RequestParts, autoResponse: ArrayLike<number>) {
    const events = new EventRecords({
      record: (...words) => {
        this.#event = words.map((word) => word >>> 0);
      },
    });
    const counters = new RequestCounters();
    this.#parts = { ...parts, dry: true, sanitizer: undefined, events, counters };
    const log = {
      push: () => {
        this.#logged = true;
        return true;
      },
    };
    this.#engine = new RequestEngine(this.#parts, { log, bus: {}, autoResponse });
  }

  /**
   * Replay one request.
   * @throws {RangeError} when the address has more than 64 bits
   */
  explain(request: ExplainRequest): Explanation {
    const sink = new StepCollector();
    const { translator } = this.#parts;
    const { cached = true } = request;
    this.#event = undefined;
    this.#logged = false;
    this.#engine.consultIotlb = cached;
    translator.dry(cached);
    translator.trace = sink;
    this.#parts.trace = sink;
    translator.pending.count = 0;
    const completion = createAtsCompletion();
    const frame = this.#send(request, completion);
    if (frame >= 0) this.#listUpdates(sink);
    return this.#conclude(request, sink, frame, completion);
  }

  #send(request: ExplainRequest, completion: AtsCompletion): number {
    const { rid, pasid = -1, access = ACCESS.READ, kind = 'untranslated' } = request;
    const pfn = addressToPfn(request.iova);
    const offset = Number(BigInt(request.iova) & 0xfffn);
    const engine = this.#engine;
    if (kind === 'translated') return engine.translatedPage(rid, pasid, pfn, access, offset);
    if (kind === 'translation') {
      engine.translationRequest(rid, pasid, pfn, access, completion);
      const granted = completion.read === 1 || completion.write === 1;
      return completion.status === 0 && granted ? completion.pfn : -1;
    }
    if (kind === 'untranslated') return engine.translatePage(rid, pasid, pfn, access, offset);
    engine.pageRequest(pageRequestFor(rid, pasid, pfn, access));
    return -1;
  }

  #listUpdates(sink: StepCollector): void {
    const { pending } = this.#parts.translator;
    for (let at = 0; at < pending.count; at++) {
      const address = pending.address[at] as number;
      sink.steps.push({ kind: 'update', address, bits: pending.bits[at] as number });
    }
  }

  #conclude(
    request: ExplainRequest,
    sink: StepCollector,
    frame: number,
    completion: AtsCompletion,
  ): Explanation {
    const event = this.#event;
    const code = event === undefined ? 0 : (event[1] as number) >>> 28;
    const pfn = frame >= 0 ? frame : undefined;
    return {
      request,
      steps: sink.steps,
      pfn,
      code,
      codeName: CODE_NAMES.get(code),
      event,
      completion: request.kind === 'translation' ? completion : undefined,
      verdict: this.#verdict(request, pfn, event),
    };
  }

  #verdict(
    { kind = 'untranslated' }: ExplainRequest,
    pfn: number | undefined,
    event: readonly number[] | undefined,
  ): string {
    if (event !== undefined) return `${kind} request refused: ${eventText(event)}`;
    if (pfn !== undefined) return `${kind} request goes to ${hex(pfn * 4096)}`;
    if (kind === 'page-request') {
      return this.#logged ? 'page request goes to the PPR log' : 'page request is not logged';
    }
    return kind === 'translation'
      ? 'translation request answered without rights, no event'
      : `${kind} request refused without an event`;
  }
}

/** Name, flags and meaning of an event. */
const eventText = (words: readonly number[]): string => {
  const event = decode(EVENT_ENTRY, words);
  const name = CODE_NAMES.get(event.CODE);
  if (name === undefined) return `event ${event.CODE}`;
  const shown = ['GN', 'NX', 'US', 'I', 'PR', 'RW', 'PE', 'RZ', 'TR'] as const;
  const flags = name === 'INVALID_PPR_REQUEST' ? [] : shown.filter((flag) => event[flag] === 1);
  return `${name}${flags.length > 0 ? ` (${flags.join(', ')})` : ''}: ${EVENT_DOC[name]}`;
};

const pageRequestFor = (rid: number, pasid: number, pfn: number, access: number): PageRequest => ({
  rid,
  pasid,
  addressPfn: pfn,
  read: (access & ACCESS.READ) !== 0,
  write: (access & ACCESS.WRITE) !== 0,
  exec: (access & ACCESS.EXEC) !== 0,
  priv: (access & ACCESS.PRIV) !== 0,
  last: true,
  prgi: 0,
});

/** The trace as text, one line per step and per field that is not zero. */
export const formatExplanation = (explanation: Explanation): string => {
  const lines = explanation.steps.flatMap((step) => stepLines(step));
  return [...lines, explanation.verdict].join('\n');
};

const stepLines = (step: ExplainStep): string[] => {
  if (step.kind === 'cache') {
    return [`${step.name}: ${step.hit ? 'hit' : 'miss'} ${step.detail}`.trimEnd()];
  }
  if (step.kind === 'rule') return [step.text];
  if (step.kind === 'bus-error') {
    return [`${hex(step.address)}: nothing answers (${step.structure})`];
  }
  if (step.kind === 'update') return [`${hex(step.address)}: would set bits ${hex(step.bits)}`];
  const words = step.words.map((word) => word.toString(16).padStart(8, '0')).join(' ');
  const fields = step.fields.filter((row) => row.value !== 0 && row.value !== 0n).map(rowText);
  return [`${hex(step.address)}: ${step.what} ${step.structure} ${words}`, ...fields];
};

const rowText = (row: ExplainRow): string =>
  `    ${row.name} [${row.bits}] = ${row.text}${row.symbol ? ` ${row.symbol}` : ''}${row.reservedBitsSet ? ' RESERVED' : ''}  ${row.doc}`;
