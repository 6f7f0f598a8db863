import { hex } from '@iommukit/bits';
import type { UnrecoverableFault } from '@iommukit/core';
import type { BadDma } from './bad-dma.ts';
import type { Explained } from './explained.ts';
import type { StreamResult } from './stream.ts';
import type { SetupStep, Vmm } from './vmm.ts';

/** A fault record, decoded, as plain data. */
export interface FaultReport {
  /** The architecture's number, `0x79`. */
  readonly reason: string;
  readonly name: string;
  /** The record as the hardware wrote it, dwords, lowest first. */
  readonly words: readonly string[];
  /** Its fields by the specification's names. */
  readonly fields: Readonly<Record<string, string>>;
}

/** Everything the run found out; what `--json` prints. */
export interface Report {
  readonly ok: boolean;
  readonly file: string;
  readonly fileBytes: number;
  readonly guestMib: number;
  readonly setup: readonly SetupStep[];
  readonly stream: {
    readonly bytes: number;
    readonly seconds: number;
    readonly bytesPerSecond: number;
    readonly pageRequests: number;
    readonly bufferBytes: number;
  };
  readonly hardware: {
    /** Pages the unit translated, by DMA and by ATS. */
    readonly translations: number;
    readonly translationRequests: number;
    readonly translatedRequests: number;
    readonly iotlbHits: number;
    readonly iotlbMisses: number;
    readonly iotlbHitRate: number;
  };
  readonly sha256: { readonly guest: string; readonly file: string; readonly match: boolean };
  readonly explained: Explained;
  readonly badDma: {
    readonly attempt: string;
    readonly bytesWritten: number;
    readonly stopped: boolean;
    readonly fault: FaultReport | null;
  };
}

/** What a run hands in. */
export interface ReportInput {
  readonly vmm: Vmm;
  readonly file: string;
  readonly fileBytes: number;
  readonly guestMib: number;
  readonly stream: StreamResult;
  /** SHA-256 of the file, read from disk. */
  readonly fileSha256: string;
  readonly explained: Explained;
  readonly badDma: BadDma;
}

/** Put a run together. */
export const createReport = (input: ReportInput): Report => {
  const { vmm, stream, badDma, fileSha256 } = input;
  const match = stream.sha256 === fileSha256;
  const stopped = badDma.bytesWritten === 0 && badDma.fault !== undefined;
  return {
    ok: match && stopped,
    file: input.file,
    fileBytes: input.fileBytes,
    guestMib: input.guestMib,
    setup: vmm.setup,
    stream: {
      bytes: stream.bytes,
      seconds: stream.seconds,
      bytesPerSecond: stream.bytes === 0 ? 0 : stream.bytes / stream.seconds,
      pageRequests: stream.pageRequests,
      bufferBytes: stream.bufferBytes,
    },
    hardware: hardwareReport(input),
    sha256: { guest: stream.sha256, file: fileSha256, match },
    explained: input.explained,
    badDma: {
      attempt: badDma.attempt,
      bytesWritten: badDma.bytesWritten,
      stopped,
      fault: badDma.fault ? faultReport(badDma.fault) : null,
    },
  };
};

const hardwareReport = ({ stream }: ReportInput): Report['hardware'] => {
  const { translations, translationRequests, translatedRequests, iotlbHits, iotlbMisses } =
    stream.hardware;
  const looked = iotlbHits + iotlbMisses;
  return {
    translations,
    translationRequests,
    translatedRequests,
    iotlbHits,
    iotlbMisses,
    iotlbHitRate: looked === 0 ? 0 : iotlbHits / looked,
  };
};

const faultReport = (fault: UnrecoverableFault): FaultReport => ({
  reason: hex(fault.reason),
  name: fault.name,
  words: fault.words.map((word) => hex(word >>> 0)),
  fields: Object.fromEntries(
    Object.entries(fault.fields).map(([name, value]) => [name, hex(value)]),
  ),
});
