/**
 * Replays a request as a trace: what is read, what it says, which rule decides. Nothing changes: no
 * cache, no accessed or dirty bit, no record.
 */
import {
  addressToPfn,
  type ExplainRow,
  explain as explainLayout,
  hex,
  type Layout,
} from '@iommukit/bits';
import { ACCESS, type AtsCompletion, createAtsCompletion, type PageRequest } from '@iommukit/core';
import { FAULT_CONDITIONS, FAULT_REASON } from '../spec/fault-reasons.ts';
import type { FaultDetails } from './fault-recording.ts';
import type { RequestParts } from './request-parts.ts';
import { RequestEngine } from './requests.ts';
import type { TraceSink } from './trace.ts';
import type { Translator } from './translate.ts';

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
  /** Fault reason; 0 = none. */
  readonly reason: number;
  /** Name of the reason in `FAULT_REASON`. */
  readonly reasonName: string | undefined;
  /** The fault would be recorded (FPD does not silence it). */
  readonly recorded: boolean;
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
    this.steps.push({
      kind: 'read',
      what,
      structure: layout.name,
      address,
      words: unsigned,
      fields,
    });
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

const REASON_NAMES = new Map<number, string>(
  Object.entries(FAULT_REASON).map(([name, reason]) => [reason, name]),
);

/** Explains requests with a dry engine of its own. */
export class Explainer {
  readonly #engine: RequestEngine;
  readonly #translator: Translator;
  #fault: FaultDetails | undefined;
  #silenced = false;

  /** @param parts the unit's parts, with a dry translator in place of its own */
  constructor(parts: RequestParts) {
    this.#translator = parts.translator;
    this.#engine = new RequestEngine({
      ...parts,
      dry: true,
      sanitizer: undefined,
      faults: {
        record: (details, fpd) => {
          this.#fault = { ...details };
          this.#silenced = fpd;
        },
      },
      pageRequests: { respond() {}, refuses: () => false, push() {} },
    });
  }

  /**
   * Replay one request.
   * @param enabled GSTS.TES
   * @throws {RangeError} when the address has more than 64 bits
   */
  explain(request: ExplainRequest, enabled: boolean): Explanation {
    const sink = new StepCollector();
    this.#fault = undefined;
    this.#silenced = false;
    this.#engine.state.enabled = enabled;
    this.#engine.refresh();
    const { cached = true } = request;
    this.#engine.consultIotlb = cached;
    this.#translator.dry(cached);
    this.#engine.trace = sink;
    this.#translator.trace = sink;
    this.#translator.pending.count = 0;
    const completion = createAtsCompletion();
    const frame = this.#send(request, completion);
    this.#listUpdates(sink);
    return this.#conclude(request, sink, frame, completion);
  }

  #send(request: ExplainRequest, completion: AtsCompletion): number {
    const { rid, pasid = -1, access = ACCESS.READ, kind = 'untranslated' } = request;
    const pfn = addressToPfn(request.iova);
    const engine = this.#engine;
    if (kind === 'translated') return engine.translatedPage(rid, pasid, pfn, access);
    if (kind === 'translation') {
      engine.translationRequest(rid, pasid, pfn, access, completion);
      return completion.status === 0 ? completion.pfn : -1;
    }
    if (kind === 'untranslated') return engine.translatePage(rid, pasid, pfn, access);
    engine.pageRequest(pageRequestFor(rid, pasid, pfn, access));
    return -1;
  }

  #listUpdates(sink: StepCollector): void {
    const { pending } = this.#translator;
    for (let i = 0; i < pending.count; i++)
      sink.steps.push({
        kind: 'update',
        address: pending.address[i] as number,
        bits: pending.bits[i] as number,
      });
  }

  #conclude(
    request: ExplainRequest,
    sink: StepCollector,
    frame: number,
    completion: AtsCompletion,
  ): Explanation {
    const fault = this.#fault as FaultDetails | undefined;
    const reason = fault?.reason ?? 0;
    const condition = FAULT_CONDITIONS.find((row) => row.reason === reason);
    const recorded = reason !== 0 && !(this.#silenced && condition?.qualified === true);
    const pfn = frame >= 0 ? frame : undefined;
    return {
      request,
      steps: sink.steps,
      pfn,
      reason,
      reasonName: REASON_NAMES.get(reason),
      recorded,
      completion: request.kind === 'translation' ? completion : undefined,
      verdict: verdictText(request, pfn, reason, recorded),
    };
  }
}

function pageRequestFor(rid: number, pasid: number, pfn: number, access: number): PageRequest {
  return {
    rid,
    pasid,
    addressPfn: pfn,
    read: (access & ACCESS.READ) !== 0,
    write: (access & ACCESS.WRITE) !== 0,
    exec: (access & ACCESS.EXEC) !== 0,
    priv: (access & ACCESS.PRIV) !== 0,
    last: true,
    prgi: 0,
  };
}

function verdictText(
  request: ExplainRequest,
  pfn: number | undefined,
  reason: number,
  recorded: boolean,
): string {
  const kind = request.kind ?? 'untranslated';
  const condition = FAULT_CONDITIONS.find((row) => row.reason === reason);
  if (condition !== undefined)
    return `${kind} request refused: ${hex(reason)} (${condition.condition}) ${condition.doc}${recorded ? '' : '; not recorded, FPD is set'}`;
  if (pfn !== undefined) return `${kind} request goes to ${hex(pfn * 4096)}`;
  return kind === 'page-request'
    ? 'page request goes to the page request queue'
    : `${kind} request refused without a fault reason`;
}

/** The trace as text, one line per step and per field that is not zero. */
export function formatExplanation(explanation: Explanation): string {
  const lines = explanation.steps.flatMap((step) => {
    if (step.kind === 'cache')
      return [`${step.name}: ${step.hit ? 'hit' : 'miss'} ${step.detail}`.trimEnd()];
    if (step.kind === 'rule') return [step.text];
    if (step.kind === 'bus-error')
      return [`${hex(step.address)}: nothing answers (${step.structure})`];
    if (step.kind === 'update') return [`${hex(step.address)}: would set bits ${hex(step.bits)}`];
    const words = step.words.map((word) => word.toString(16).padStart(8, '0')).join(' ');
    const fields = step.fields
      .filter((row) => row.value !== 0 && row.value !== 0n)
      .map(
        (row) =>
          `    ${row.name} [${row.bits}] = ${row.text}${row.symbol ? ` ${row.symbol}` : ''}${row.reservedBitsSet ? ' RESERVED' : ''}  ${row.doc}`,
      );
    return [`${hex(step.address)}: ${step.what} ${step.structure} ${words}`, ...fields];
  });
  return [...lines, explanation.verdict].join('\n');
}
