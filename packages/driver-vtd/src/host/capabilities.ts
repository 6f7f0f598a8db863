import { decode } from '@iommukit/bits';
import { refuse } from '@iommukit/core';
import { CAP, ECAP, VER } from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

const readWords = (registers: RegisterFile, offset: number): Uint32Array =>
  Uint32Array.of(registers.read32(offset), registers.read32(offset + 4));

/** What the capability registers of a unit say, and what the platform adds. */
export interface Capabilities {
  readonly capWords: Uint32Array;
  readonly ecapWords: Uint32Array;
  readonly cap: ReturnType<typeof decodeCap>;
  readonly ecap: ReturnType<typeof decodeEcap>;
  readonly majorVersion: number;
  /** Scalable mode is in use: the unit has it and the option does not forbid it. */
  readonly scalable: boolean;
  /** Host address width, which firmware tells (DMAR table), bits. */
  readonly hostAddressBits: number;
  /** Width of a DID. */
  readonly didBits: number;
  /** Width of a second-stage input address (CAP.MGAW). */
  readonly guestAddressBits: number;
  /** Width of a PASID, 0 = none. */
  readonly pasidBits: number;
  /** Nested translation (PGTT 3) can be used. */
  readonly nesting: boolean;
  /** Second-stage dirty bits can be used. */
  readonly dirtyTracking: boolean;
}

const decodeCap = (words: Uint32Array) => decode(CAP, words);
const decodeEcap = (words: Uint32Array) => decode(ECAP, words);

/**
 * Read and check the capability registers (bring-up step 1).
 *
 * @param scalable use scalable mode where the unit has it
 * @throws {IommuError} ENODEV when the unit translates nothing, or has no invalidation queue
 * @spec VT-d 11.4.1 to 11.4.3
 */
export const readCapabilities = (
  registers: RegisterFile,
  hostAddressBits: number,
  scalable: boolean,
): Capabilities => {
  const capWords = readWords(registers, CAP.offset);
  const ecapWords = readWords(registers, ECAP.offset);
  const cap = decodeCap(capWords);
  const ecap = decodeEcap(ecapWords);
  const inScalable = scalable && ecap.SMTS === 1;
  checkUsable(cap, ecap, inScalable);
  return {
    capWords,
    ecapWords,
    cap,
    ecap,
    majorVersion: decode(VER, [registers.read32(VER.offset)]).MAX,
    scalable: inScalable,
    hostAddressBits,
    didBits: 4 + 2 * cap.ND,
    guestAddressBits: cap.MGAW + 1,
    pasidBits: inScalable && ecap.PASID === 1 ? ecap.PSS + 1 : 0,
    nesting: inScalable && ecap.NEST === 1,
    dirtyTracking: inScalable && ecap.SSADS === 1 && ecap.SMPWCS === 1,
  };
};

const checkUsable = (
  cap: ReturnType<typeof decodeCap>,
  ecap: ReturnType<typeof decodeEcap>,
  scalable: boolean,
): void => {
  if (ecap.QI === 0) {
    throw refuse(
      'ENODEV',
      'bring-up',
      'queued-invalidation',
      'the unit has no invalidation queue (ECAP.QI=0); this driver invalidates by queue only',
      { accepted: 'a unit with ECAP.QI=1' },
    );
  }
  const secondStage = scalable ? ecap.SSTS === 1 : true;
  if ((secondStage && cap.SAGAW !== 0) || (scalable && ecap.FSTS === 1)) return;
  throw refuse(
    'ENODEV',
    'bring-up',
    'no-translation',
    'the unit offers neither a second-stage width (CAP.SAGAW) nor first-stage tables (ECAP.FSTS)',
    { value: cap.SAGAW, accepted: 'CAP.SAGAW with bit 1, 2 or 3 set, or ECAP.FSTS=1' },
  );
};
