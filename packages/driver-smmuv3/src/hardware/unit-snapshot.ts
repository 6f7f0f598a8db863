/**
 * The state of a unit as bytes, and back: registers, caches, stalled requests. Memory is not part
 * of it.
 */
import { decode } from '@iommukit/bits';
import { decodeState, encodeState, refuse, snapshotCodec } from '@iommukit/core';
import { AIDR, IDR0, IDR1, IDR2, IDR3, IDR4, IDR5, IIDR } from '../spec/registers.ts';
import type { Caches, ConfigCacheState } from './caches.ts';
import type { Stage1Config, Stage2Config, StreamConfig } from './configuration.ts';
import type { DeviceCommands } from './device-commands.ts';
import type { RegisterBank } from './register-bank.ts';
import type { Stalls, StallsState } from './stalls.ts';

const { blob, bool, i32s, int, list, nat, optional, struct, u8, u32, u32s } = snapshotCodec;

const OP = 'restore';

const STAGE2: snapshotCodec.Codec<Stage2Config> = struct({
  root: nat,
  granuleLg2: u8,
  startLevel: int,
  inputFrames: nat,
  outputBytes: nat,
  wide: bool,
  bigEndian: bool,
  affd: bool,
  ha: bool,
  haft: bool,
  hd: bool,
  xnx: bool,
  deviceMask: u8,
  protectWalks: bool,
  terms: u8,
});

const STREAM: snapshotCodec.Codec<StreamConfig> = struct({
  bad: bool,
  config: u8,
  vmid: u32,
  stage2: optional(STAGE2),
  cdTable: nat,
  cdMax: u8,
  cdFormat: u8,
  defaultSubstream: u8,
  eats: u8,
  answersWithPasid: bool,
  world: u8,
  stage1NeverStalls: bool,
  privilegeOverride: u8,
  instructionOverride: u8,
});

const HALF = struct({
  root: nat,
  granuleLg2: u8,
  startLevel: int,
  inputFrames: nat,
  wide: bool,
  had: bool,
  e0pd: bool,
});

const CONTEXT: snapshotCodec.Codec<Stage1Config> = struct({
  bad: bool,
  world: u8,
  asid: int,
  aset: u8,
  lower: optional(HALF),
  upper: optional(HALF),
  outputBytes: nat,
  bigEndian: bool,
  affd: bool,
  ha: bool,
  haft: bool,
  hd: bool,
  wxn: bool,
  pan: bool,
  epan: bool,
  tbi0: bool,
  tbi1: bool,
  terms: u8,
});

const configCache = <T>(value: snapshotCodec.Codec<T>): snapshotCodec.Codec<ConfigCacheState<T>> =>
  struct({
    words: i32s,
    victims: blob,
    values: list(struct({ at: u32, value })),
  });

const STALLED = struct({
  sid: u32,
  ssid: int,
  pfn: nat,
  access: u32,
  offset: u32,
  ticket: u32,
  stag: int,
  words: u32s,
  reported: bool,
  lost: bool,
  answer: optional(int),
  rounds: u32,
});

const STALLS: snapshotCodec.Codec<StallsState> = struct({
  nextTicket: u32,
  nextTag: u32,
  tagged: list(STALLED),
  untagged: list(STALLED),
  ready: list(STALLED),
  later: list(STALLED),
});

/** A unit, see the module description. */
export const HARDWARE_STATE = struct({
  registers: u32s,
  streams: configCache(STREAM),
  contexts: configCache(CONTEXT),
  tlb: struct({ sets: u32, ways: u32, words: i32s, victims: blob }),
  timedOut: bool,
  stalls: STALLS,
});

/** See {@link HARDWARE_STATE}. */
export type HardwareState = snapshotCodec.Stored<typeof HARDWARE_STATE>;

/** The parts of a unit that hold state. */
export interface StatefulParts {
  readonly bank: RegisterBank;
  readonly caches: Caches;
  readonly devices: DeviceCommands;
  readonly stalls: Stalls;
}

/** Read a unit. */
export const saveUnit = ({ bank, caches, devices, stalls }: StatefulParts): HardwareState => ({
  registers: bank.save(),
  ...caches.save(),
  timedOut: devices.timedOut,
  stalls: stalls.save(),
});

const bad = (what: string, value: number | string, accepted: string) =>
  refuse('EINVAL', OP, 'smmu-state', what, { value, accepted });

const IDENTIFICATION = [IDR0, IDR1, IDR2, IDR3, IDR4, IDR5, IIDR, AIDR];

/**
 * Look whether a state fits a unit; nothing changes.
 *
 * @throws {IommuError} EINVAL that names what does not fit
 */
export const checkUnit = (parts: StatefulParts, state: HardwareState): void => {
  const { bank, caches, stalls } = parts;
  const here = saveUnit({ ...parts, bank });
  if (state.registers.length !== here.registers.length)
    throw bad('registers in the state', state.registers.length, `${here.registers.length} dwords`);
  for (const register of IDENTIFICATION) {
    const place = bank.placeOf(register);
    const value = state.registers[place] as number;
    const own = here.registers[place] as number;
    if (value === own) continue;
    const fields = differingFields(register, value, own);
    throw bad(`${register.name} differs in ${fields}`, value, `${own}, as this unit has`);
  }
  checkGeometry('the STE cache', state.streams, here.streams);
  checkGeometry('the CD cache', state.contexts, here.contexts);
  const { sets, ways, words } = state.tlb;
  if (
    sets !== caches.tlb.sets ||
    ways !== caches.tlb.ways ||
    words.length !== here.tlb.words.length
  )
    throw bad(
      'the TLB has another size',
      `${sets} x ${ways}`,
      `${caches.tlb.sets} x ${caches.tlb.ways}`,
    );
  for (const { value } of state.streams.values) checkStream(value);
  for (const { value } of state.contexts.values) checkContext(value);
  stalls.check(state.stalls, bad);
};

const differingFields = (register: typeof IDR0 | object, value: number, own: number): string => {
  const layout = register as typeof IDR0;
  const theirs: Readonly<Record<string, number>> = decode(layout, [value]);
  const ours: Readonly<Record<string, number>> = decode(layout, [own]);
  return Object.keys(ours)
    .filter((name) => theirs[name] !== ours[name])
    .join(', ');
};

const checkGeometry = (
  what: string,
  theirs: ConfigCacheState<unknown>,
  ours: ConfigCacheState<unknown>,
): void => {
  const { words, victims, values } = theirs;
  if (words.length !== ours.words.length || victims.length !== ours.victims.length)
    throw bad(`${what} has another size`, words.length, `${ours.words.length} words`);
  const stray = values.find(({ at }) => at >= words.length);
  if (stray !== undefined) throw bad(`${what} has an entry outside`, stray.at, 'a place inside');
};

const GRANULES = [12, 14, 16];
const LAST_LEVEL = 3;
const MAX_CONFIG = 7;
const MAX_WORLD = 2;

const checkWalk = ({ granuleLg2, startLevel }: Pick<Stage2Config, 'granuleLg2' | 'startLevel'>) => {
  if (!GRANULES.includes(granuleLg2))
    throw bad('a granule that there is not', granuleLg2, GRANULES.join(', '));
  if (startLevel < -1 || startLevel > LAST_LEVEL)
    throw bad('a start level that there is not', startLevel, '-1 to 3');
};

const checkStream = ({ config, world, stage2 }: StreamConfig): void => {
  if (config > MAX_CONFIG || world > MAX_WORLD) throw bad('no such stream', config, '0 to 7');
  if (stage2 !== undefined) checkWalk(stage2);
  if ((stage2 !== undefined) !== (config === 6 || config === 7))
    throw bad('stage 2 contradicts Config', config, '6 and 7 with stage 2, the others without');
};

const checkContext = ({ world, lower, upper }: Stage1Config): void => {
  if (world > MAX_WORLD) throw bad('no such stream world', world, '0 to 2');
  for (const half of [lower, upper]) if (half !== undefined) checkWalk(half);
};

/** Put a state that {@link checkUnit} found good in place; what registers mean is up to the caller. */
export const loadUnit = (
  { bank, caches, devices, stalls }: StatefulParts,
  state: HardwareState,
): void => {
  bank.load(state.registers);
  caches.load(state);
  devices.timedOut = state.timedOut;
  stalls.load(state.stalls);
};

/** Bytes of a state. */
export const unitToBytes = (state: HardwareState): Uint8Array => encodeState(HARDWARE_STATE, state);

/** @throws {IommuError} EINVAL for bytes that are no state */
export const unitFromBytes = (bytes: Uint8Array): HardwareState =>
  decodeState(HARDWARE_STATE, bytes, OP);
