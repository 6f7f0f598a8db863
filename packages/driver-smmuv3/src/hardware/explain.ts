/**
 * Replays a request as a trace: what is read, what it says, which rule decides. Nothing changes: no
 * cache, no descriptor, no record.
 */
import {
  addressToPfn,
  type ExplainRow,
  explain as explainLayout,
  hex,
  type Layout,
} from '@iommukit/bits';
import { ACCESS, type AtsCompletion, BLOCKED, createAtsCompletion, RAZ_WI } from '@iommukit/core';
import { AtsService } from './ats.ts';
import type { Features } from './capabilities.ts';
import { type CachesToLookAt, dryCaches, ShadowMemory } from './dry-run.ts';
import { ExplainedConfiguration, eventName, faultText } from './explain-rules.ts';
import type { HardwareMemory } from './memory.ts';
import type { PageRequestQueue } from './page-request-queue.ts';
import { ReadFollower } from './read-follower.ts';
import { createRequestParts } from './request-parts.ts';
import type { TraceSink } from './trace.ts';
import { Translator, type TranslatorParts } from './translate.ts';
import type { UnitState } from './unit-state.ts';

/** A request to explain. */
export interface ExplainRequest {
  /** StreamID. */
  readonly rid: number;
  /** SubstreamID, 20 bits; default none. */
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
  /** 4 KiB frame of the result; undefined when there is none. */
  readonly pfn: number | undefined;
  /** Event code of what went wrong; 0 = nothing, or nothing that has a code. */
  readonly reason: number;
  /** Name of the reason in `EVENT`. */
  readonly reasonName: string | undefined;
  /** An event would be recorded. */
  readonly recorded: boolean;
  /** The request would wait for software. */
  readonly stalled: boolean;
  /** Translation requests: what the device would get. */
  readonly completion: AtsCompletion | undefined;
  /** One sentence. */
  readonly verdict: string;
}

/** The unit whose requests are explained. */
export interface ExplainedUnit {
  readonly memory: HardwareMemory;
  readonly state: UnitState;
  readonly features: Features;
  readonly caches: CachesToLookAt;
  readonly pageRequests: Pick<PageRequestQueue, 'fate'>;
  /** Whether results cover contiguous groups. */
  readonly contiguousGroups?: boolean | undefined;
}

/** Collects steps. */
class StepCollector implements TraceSink {
  readonly steps: ExplainStep[] = [];

  /** A step: a structure was read. */
  read(layout: Layout, address: number, words: Uint32Array, what: string): void {
    const fields = explainLayout(layout, words);
    const step = { kind: 'read' as const, what, structure: layout.name, address, fields };
    this.steps.push({ ...step, words: [...words] });
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

/** What became of a request. */
interface Outcome {
  readonly frame: number;
  readonly completion: AtsCompletion | undefined;
}

/** Explains requests of one unit, each with parts of its own. */
export class Explainer {
  readonly #unit: ExplainedUnit;

  constructor(unit: ExplainedUnit) {
    this.#unit = unit;
  }

  /**
   * Replay one request.
   *
   * @throws {RangeError} when the address has more than 64 bits
   */
  explain(request: ExplainRequest): Explanation {
    const sink = new StepCollector();
    const shadow = new ShadowMemory(this.#unit.memory);
    const fate = { recorded: false, stalled: false };
    const parts = this.#parts(request, sink, shadow, fate);
    const outcome = this.#send(request, parts, sink);
    const { code } = parts.fault;
    if (code !== 0) sink.rule(faultText(parts.fault));
    for (const update of shadow.updates()) sink.steps.push({ kind: 'update', ...update });
    return conclude(request, sink.steps, outcome, code, fate);
  }

  #parts(
    { cached = true }: ExplainRequest,
    sink: TraceSink,
    memory: ShadowMemory,
    fate: { recorded: boolean; stalled: boolean },
  ): TranslatorParts {
    const { state, features, caches, contiguousGroups } = this.#unit;
    const record = () => {
      fate.recorded = true;
    };
    const stall = () => {
      record();
      fate.stalled = true;
      return BLOCKED;
    };
    const follower = new ReadFollower(memory, state);
    follower.sink = sink;
    const parts = createRequestParts({
      memory,
      state,
      features,
      caches: dryCaches(cached ? caches : undefined, (name, hit) => sink.cache(name, hit, '')),
      events: { record },
      stalls: { takeCurrent: () => undefined, stall },
      contiguousGroups,
      follower,
    });
    return { ...parts, configuration: new ExplainedConfiguration(parts.configuration, sink) };
  }

  #send(request: ExplainRequest, parts: TranslatorParts, sink: TraceSink): Outcome {
    const { rid, pasid = -1, access = ACCESS.READ, kind = 'untranslated', iova } = request;
    const pfn = addressToPfn(iova);
    const offset = Number(typeof iova === 'bigint' ? iova & 0xfffn : iova % 4096);
    if (!this.#unit.state.enabled) sink.rule(this.#disabledText(kind));
    if (kind === 'untranslated') {
      const frame = new Translator(parts).translate(rid, pasid, pfn, access, offset);
      return { frame, completion: undefined };
    }
    if (kind === 'translated') {
      if (!this.#unit.state.checkTranslated) sink.rule('CR0.ATSCHK=0: nobody looks at the address');
      const frame = new AtsService(parts).translated(rid, pfn, access);
      return { frame, completion: undefined };
    }
    if (kind === 'translation') {
      const completion = createAtsCompletion();
      new AtsService(parts).translationRequest(rid, pasid, pfn, access, completion);
      const granted = completion.read === 1 || completion.write === 1;
      return { frame: granted ? completion.pfn : -1, completion };
    }
    sink.rule(FATE_TEXT[this.#unit.pageRequests.fate]);
    return { frame: -1, completion: undefined };
  }

  #disabledText(kind: NonNullable<ExplainRequest['kind']>): string {
    if (kind !== 'untranslated') return 'CR0.SMMUEN=0: no ATS and no page requests';
    const { bypassAborts } = this.#unit.state;
    return `CR0.SMMUEN=0, GBPA.ABORT=${+bypassAborts}: the request ${bypassAborts ? 'aborts' : 'passes'}`;
  }
}

const FATE_TEXT = {
  queued: 'there is room in the page request queue',
  overflow: 'the page request queue is full or has overflowed: automatic answer',
  failure: 'the page request queue is closed: automatic failure',
} as const;

const conclude = (
  request: ExplainRequest,
  steps: readonly ExplainStep[],
  { frame, completion }: Outcome,
  reason: number,
  fate: { readonly recorded: boolean; readonly stalled: boolean },
): Explanation => {
  const pfn = frame >= 0 ? frame : undefined;
  const reasonName = reason === 0 ? undefined : eventName(reason);
  const how = fate.stalled ? 'stalled' : frame === RAZ_WI ? 'terminated without error' : 'refused';
  const verdict = verdictText(request, pfn, reasonName, how, fate.recorded);
  return { request, steps, pfn, reason, reasonName, ...fate, completion, verdict };
};

const verdictText = (
  { kind = 'untranslated' }: ExplainRequest,
  pfn: number | undefined,
  reasonName: string | undefined,
  how: string,
  recorded: boolean,
): string => {
  if (kind === 'page-request') return 'page request: see above';
  if (pfn !== undefined) return `${kind} request goes to ${hex(pfn * 4096)}`;
  if (reasonName === undefined) return `${kind} request ${how}, and nothing is recorded`;
  return `${kind} request ${how}: ${reasonName}${recorded ? '' : ', not recorded'}`;
};

/** The trace as text, one line per step and per field that is not zero. */
export const formatExplanation = ({ steps, verdict }: Explanation): string =>
  [...steps.flatMap(stepLines), verdict].join('\n');

const stepLines = (step: ExplainStep): string[] => {
  switch (step.kind) {
    case 'cache':
      return [`${step.name}: ${step.hit ? 'hit' : 'miss'} ${step.detail}`.trimEnd()];
    case 'rule':
      return [step.text];
    case 'bus-error':
      return [`${hex(step.address)}: nothing answers (${step.structure})`];
    case 'update':
      return [`${hex(step.address)}: would change bits ${hex(step.bits)}`];
    case 'read':
      return readLines(step);
  }
};

const readLines = (step: Extract<ExplainStep, { readonly kind: 'read' }>): string[] => {
  const words = step.words.map((word) => word.toString(16).padStart(8, '0')).join(' ');
  const fields = step.fields
    .filter((row) => row.value !== 0 && row.value !== 0n)
    .map((row) =>
      `    ${row.name} [${row.bits}] = ${row.text}${row.symbol ? ` ${row.symbol}` : ''}${row.reservedBitsSet ? ' RESERVED' : ''}  ${row.doc}`.trimEnd(),
    );
  return [`${hex(step.address)}: ${step.what} ${step.structure} ${words}`, ...fields];
};
