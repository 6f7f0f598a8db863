/**
 * Replays a request as a trace: what is read, what it says, which rule decides. Nothing changes: no
 * cache, no accessed or dirty bit, no record.
 */
import {
  addressToPfn,
  type ExplainRow,
  explain as explainLayout,
  type Layout,
} from '@iommukit/bits';
import {
  ACCESS,
  type AtsCompletion,
  createAtsCompletion,
  createInterruptMessage,
  type InterruptMessage,
  type PageRequest,
} from '@iommukit/core';
import { FAULT_CONDITIONS, FAULT_REASON } from '../spec/fault-reasons.ts';
import { refusalText, verdictText } from './explain-text.ts';
import type { FaultDetails, FaultRecorder } from './fault-recording.ts';
import { INTERRUPT_ANSWER } from './interrupt-judge.ts';
import type { InterruptRemapper, InterruptTable } from './interrupt-remapping.ts';
import type { RequestParts } from './request-parts.ts';
import { RequestEngine } from './requests.ts';
import type { TraceSink } from './trace.ts';
import type { Translator } from './translate.ts';

/** A request to explain. */
export interface ExplainRequest {
  readonly rid: number;
  /** 20 bits; default none. */
  readonly pasid?: number;
  /** Byte address, 64 bits; of an interrupt request FEEx_xxxxh. */
  readonly iova: number | bigint;
  /** Sum of `ACCESS` bits; default READ. */
  readonly access?: number;
  /** Default `'untranslated'`. */
  readonly kind?: 'untranslated' | 'translation' | 'translated' | 'page-request' | 'interrupt';
  /** Interrupt requests: what is written, u32; default 0. */
  readonly data?: number;
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
  /** Interrupt requests: what would be delivered. */
  readonly message: InterruptMessage | undefined;
  /** One sentence. */
  readonly verdict: string;
}

/** What a request fills in. */
interface Filled {
  readonly completion: AtsCompletion;
  readonly message: InterruptMessage;
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
  readonly #interrupts: InterruptRemapper;
  #fault: FaultDetails | undefined;
  #silenced = false;

  /**
   * @param parts the unit's parts, with a dry translator in place of its own
   * @param remapper makes an interrupt remapper that reports faults here
   */
  constructor(
    parts: RequestParts,
    remapper: (faults: Pick<FaultRecorder, 'record'>) => InterruptRemapper,
  ) {
    this.#translator = parts.translator;
    const faults = {
      record: (details: Readonly<FaultDetails>, fpd: boolean) => {
        this.#fault = { ...details };
        this.#silenced = fpd;
      },
    };
    this.#interrupts = remapper(faults);
    this.#engine = new RequestEngine({
      ...parts,
      dry: true,
      sanitizer: undefined,
      faults,
      pageRequests: { respond() {}, full: false, refuses: () => false, push() {} },
    });
  }

  /**
   * Replay one request.
   * @param enabled GSTS.TES
   * @param table the unit's interrupt remapping table
   * @throws {RangeError} when the address has more than 64 bits, or an interrupt request is none
   */
  explain(request: ExplainRequest, enabled: boolean, table: InterruptTable): Explanation {
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
    this.#interrupts.table = table;
    this.#interrupts.dry(cached).trace = sink;
    this.#translator.pending.count = 0;
    const filled = { completion: createAtsCompletion(), message: createInterruptMessage() };
    const answer = this.#send(request, filled);
    this.#listUpdates(sink);
    return this.#conclude(request, sink, answer, filled);
  }

  #send(request: ExplainRequest, { completion, message }: Filled): number {
    const { rid, pasid = -1, access = ACCESS.READ, kind = 'untranslated' } = request;
    if (kind === 'interrupt')
      return this.#interrupts.remap(rid, Number(request.iova), request.data ?? 0, 4, message);
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
    answer: number,
    { completion, message }: Filled,
  ): Explanation {
    const fault = this.#fault as FaultDetails | undefined;
    const reason = fault?.reason ?? 0;
    const condition = FAULT_CONDITIONS.find((row) => row.reason === reason);
    const recorded = reason !== 0 && !(this.#silenced && condition?.qualified === true);
    const interrupt = request.kind === 'interrupt';
    const pfn = answer >= 0 && !interrupt ? answer : undefined;
    return {
      request,
      steps: sink.steps,
      pfn,
      reason,
      reasonName: REASON_NAMES.get(reason),
      recorded,
      completion: request.kind === 'translation' ? completion : undefined,
      message: interrupt && answer === INTERRUPT_ANSWER.DELIVER ? message : undefined,
      verdict: refusalText(request, reason, recorded) ?? verdictText(request, answer, message),
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
