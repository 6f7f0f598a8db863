/**
 * The rules that decide a request before any table is walked, in words.
 */
import { hex } from '@iommukit/bits';
import { EVENT, EVENT_CLASS, EVENT_DOC } from '../spec/events.ts';
import { S1_DSS, STE_CONFIG } from '../spec/stream-table-entry.ts';
import type { Stage1Config, StreamConfig } from './configuration.ts';
import { REFUSED, STAGE1_BYPASS } from './configuration-access.ts';
import type { Fault } from './faults.ts';
import type { TraceSink } from './trace.ts';
import type { ConfigurationSource } from './translate.ts';

const CONFIG_TEXT: Readonly<Record<number, string>> = {
  [STE_CONFIG.BYPASS]: 'both stages are bypassed',
  [STE_CONFIG.S1]: 'stage 1 translates',
  [STE_CONFIG.S2]: 'stage 2 translates',
  [STE_CONFIG.NESTED]: 'stage 1 and then stage 2 translate',
};

const EVENT_NAMES = new Map<number, keyof typeof EVENT>(
  Object.entries(EVENT).map(([name, code]) => [code, name as keyof typeof EVENT]),
);

/** Name of an event code. */
export const eventName = (code: number): keyof typeof EVENT | undefined => EVENT_NAMES.get(code);

const CLASS_TEXT: Readonly<Record<number, string>> = {
  [EVENT_CLASS.CD]: ' while the context descriptor was read',
  [EVENT_CLASS.TT]: ' while a translation table was read',
};

/** A fault in words. */
export const faultText = ({ code, stage2, eventClass }: Fault): string => {
  const name = eventName(code);
  if (name === undefined) return `event ${hex(code)}`;
  const walks = code >= EVENT.F_WALK_EABT;
  const where = walks ? `, stage ${stage2 ? 2 : 1}${CLASS_TEXT[eventClass] ?? ''}` : '';
  return `${name}${where}: ${EVENT_DOC[name]}`;
};

/** Configuration look-ups that say which rule they apply. */
export class ExplainedConfiguration implements ConfigurationSource {
  readonly #inner: ConfigurationSource;
  readonly #sink: TraceSink;

  constructor(inner: ConfigurationSource, sink: TraceSink) {
    this.#inner = inner;
    this.#sink = sink;
  }

  stream(sid: number): StreamConfig | undefined {
    const stream = this.#inner.stream(sid);
    if (stream === undefined) return undefined;
    if (stream.bad) this.#sink.rule('the STE breaks a rule of validity');
    else if (stream.config < STE_CONFIG.BYPASS)
      this.#sink.rule('STE.Config 0 to 3: aborts, and nothing is recorded');
    else this.#sink.rule(`STE.Config=${stream.config}: ${CONFIG_TEXT[stream.config]}`);
    return stream;
  }

  contextIndex(stream: StreamConfig, ssid: number): number {
    const index = this.#inner.contextIndex(stream, ssid);
    const { cdMax, defaultSubstream, config } = stream;
    const usesStage1 = config === STE_CONFIG.S1 || config === STE_CONFIG.NESTED;
    if (!usesStage1 && ssid < 0) return index;
    this.#sink.rule(substreamText(index, ssid, cdMax, defaultSubstream, usesStage1));
    return index;
  }

  context(stream: StreamConfig, sid: number, index: number): Stage1Config | undefined {
    const context = this.#inner.context(stream, sid, index);
    if (context?.bad === true) this.#sink.rule('the CD breaks a rule of validity');
    return context;
  }
}

const substreamText = (
  index: number,
  ssid: number,
  cdMax: number,
  dss: number,
  usesStage1: boolean,
): string => {
  if (index === STAGE1_BYPASS) return 'S1DSS=1: without SubstreamID stage 1 is bypassed';
  if (index !== REFUSED) {
    if (ssid >= 0) return `SubstreamID ${hex(ssid)} selects CD ${hex(index)}`;
    return cdMax === 0 ? 'S1CDMax=0: the only CD' : 'S1DSS=2: without SubstreamID CD 0';
  }
  if (!usesStage1) return 'a SubstreamID where stage 1 does not translate';
  if (ssid < 0) return `S1DSS=${dss}: a request without SubstreamID is refused`;
  if (cdMax === 0) return 'S1CDMax=0: no SubstreamID is allowed';
  if (ssid === 0 && dss === S1_DSS.SSID0) return 'S1DSS=2: SubstreamID 0 is refused';
  return `S1CDMax=${cdMax}: SubstreamID ${hex(ssid)} is beyond the table`;
};
