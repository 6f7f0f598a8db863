import type { ExplainRow } from '@iommukit/bits';
import { hex } from '@iommukit/bits';
import { ACCESS, parseRid } from '@iommukit/core';
import type { ExplainStep } from '@iommukit/driver-vtd';
import { EXAMPLE_GVA } from './nvme-driver.ts';
import { DEVICE_RID, PASID, type Vmm } from './vmm.ts';

/** One step of a translation as plain data. */
export interface ExplainedStep {
  /** What happened: a structure that was read, a cache, a rule. */
  readonly what: string;
  /** Physical byte address that was read. */
  readonly address?: string;
  /** Its dwords, lowest first. */
  readonly words?: readonly string[];
  /** Decoded fields that are not zero, by the specification's names. */
  readonly fields?: Readonly<Record<string, string>>;
}

/** One translation, step by step. */
export interface Explained {
  readonly request: string;
  readonly steps: readonly ExplainedStep[];
  /** Physical byte address it ends at. */
  readonly hpa: string | null;
  readonly verdict: string;
}

/** Replay the translation of a write into the first data buffer; nothing changes by it. */
export const explainTranslation = (vmm: Vmm): Explained => {
  const { steps, verdict, pfn } = vmm.hardware.explain({
    rid: parseRid(DEVICE_RID),
    pasid: PASID,
    iova: EXAMPLE_GVA,
    access: ACCESS.WRITE,
    cached: false,
  });
  return {
    request: `write by ${DEVICE_RID} with PASID ${PASID} to GVA ${hex(EXAMPLE_GVA)}`,
    steps: steps.map(plainStep),
    hpa: pfn === undefined ? null : hex(pfn * 4096),
    verdict,
  };
};

const plainStep = (step: ExplainStep): ExplainedStep => {
  switch (step.kind) {
    case 'read':
      return {
        what: `${step.what} (${step.structure})`,
        address: hex(step.address),
        words: step.words.map((word) => hex(word)),
        fields: Object.fromEntries(step.fields.filter(isSet).map(fieldText)),
      };
    case 'cache':
      return { what: `${step.name}: ${step.hit ? 'hit' : 'miss'} ${step.detail}`.trimEnd() };
    case 'rule':
      return { what: step.text };
    case 'bus-error':
      return { what: `nothing answers (${step.structure})`, address: hex(step.address) };
    default:
      return { what: `would set bits ${hex(step.bits)}`, address: hex(step.address) };
  }
};

const isSet = ({ value }: ExplainRow): boolean => value !== 0 && value !== 0n;

const fieldText = ({ name, text, symbol }: ExplainRow): [string, string] => [
  name,
  symbol ? `${text} ${symbol}` : text,
];
