/**
 * Replays `iommu-case/1` files against the hardware half alone, through registers and memory.
 * No Node imports: a test and a command line both use it.
 */
import { ACCESS, type BusPort } from '@iommukit/core';
import { createVtdHardware, type VtdHardware } from '../src/hardware/index.ts';
import { SparseMemory } from './sparse-memory.ts';

type Num = number | string;

interface CaseModel {
  readonly scalable?: boolean;
  readonly first_stage?: boolean;
  readonly aw_bits?: number;
  readonly pasid_bits?: number;
  readonly caching_mode?: boolean;
  readonly device_iotlb?: boolean;
  readonly snoop_control?: boolean;
  readonly svm?: boolean;
}

interface Step {
  readonly op: string;
  readonly addr?: Num;
  readonly hex?: string;
  readonly q?: readonly Num[];
  readonly off?: Num;
  readonly size?: number;
  readonly mask?: Num;
  readonly value?: Num;
  readonly id?: string;
  readonly bdf?: string;
  readonly iova?: Num;
  readonly write?: boolean;
  readonly len?: Num;
  readonly pasid?: Num;
}

interface Fault {
  readonly reason?: Num;
  readonly reason_any?: readonly Num[];
  readonly bdf?: number;
  readonly iova?: Num;
  readonly write?: boolean;
  readonly pasid?: Num;
}

interface ProbeResult {
  readonly id: string;
  readonly ok?: boolean | null;
  readonly pa?: Num | null;
  readonly data?: string;
  readonly faults?: readonly Fault[];
  readonly before?: readonly Fault[];
  readonly segments?: readonly Num[];
}

interface Outcome {
  readonly results?: readonly ProbeResult[];
  readonly memory?: readonly { readonly id: string; readonly hex: string }[];
}

/** One case of a file. */
export interface HardwareCase {
  readonly name?: string;
  readonly arch?: string;
  readonly model?: CaseModel;
  readonly steps?: readonly Step[];
  readonly memory?: readonly Step[];
  readonly registers?: readonly Step[];
  readonly probes?: readonly Step[];
  readonly fill?: readonly { readonly addr: Num; readonly len: Num }[];
  readonly expect: Outcome;
  readonly also_legal?: Readonly<Record<string, readonly Partial<ProbeResult>[]>>;
}

/** What replaying came to. */
export interface ReplayReport {
  cases: number;
  probes: number;
  /** One line per probe (or memory check) whose answer is none of the legal ones. */
  different: string[];
}

const RAM_BYTES = 0x8000_0000;
const WORDS_FIRST = 0x4800_0000;
const WORDS_LAST = 0x48ff_ffff;
const FRCD = 0x220;
const FSTS = 0x34;

const toBigint = (value: Num): bigint => BigInt(value);
const toNumber = (value: Num): number => Number(value);

/** What an aligned dword of the address-word area holds: its own address. */
const addressWord = (address: number) => (0xa000_0000 | ((address - 0x4000_0000) / 4)) >>> 0;

function capabilitiesFor(model: CaseModel) {
  const width = model.aw_bits ?? 48;
  let cap = 0x80d2_008c_2200_0006n | (BigInt(width - 1) << 16n);
  cap |= width >= 48 ? 0x600n : 0x200n;
  if (model.caching_mode) cap |= 1n << 7n;
  if (model.first_stage) cap |= 1n << 56n;
  let ecap = 0xf0_0f4an;
  if (model.scalable) ecap |= model.first_stage ? 0x8800_0000_0000n : 0x4800_8000_0000n;
  if (model.device_iotlb) ecap |= 1n << 2n;
  if (model.snoop_control) ecap |= 1n << 7n;
  if (model.pasid_bits) ecap |= (1n << 40n) | (BigInt(model.pasid_bits - 1) << 35n);
  if (model.svm) ecap |= 0x0402_2000_0004n;
  return { registers: { ver: 0x10, cap, ecap }, width };
}

function fillOf(extra: HardwareCase['fill'] = []) {
  const ranges = extra.map(({ addr, len }) => [toNumber(addr), toNumber(addr) + toNumber(len)]);
  return (address: number) => {
    if (address >= WORDS_FIRST && address <= WORDS_LAST) return addressWord(address);
    const inside = ranges.some(
      ([from, to]) => address >= (from as number) && address < (to as number),
    );
    return inside ? addressWord(address) : 0;
  };
}

const silentBus: BusPort = {
  deliverPageResponse() {},
  invalidateDeviceTlb: () => true,
  raiseMessage() {},
};

function parseBdf(text: string): number {
  const [bus, device, fn] = text.split(/[:.]/).map((part) => Number.parseInt(part, 16)) as [
    number,
    number,
    number,
  ];
  return (bus << 8) | (device << 3) | fn;
}

/** Read and clear the one fault record, as a guest's fault handler does. */
function takeFaults(unit: VtdHardware): Fault[] {
  const faults: Fault[] = [];
  const high = unit.readRegister64(FRCD + 8);
  if (high >> 63n !== 0n) {
    const low = unit.readRegister64(FRCD);
    const hasPasid = ((high >> 31n) & 1n) !== 0n;
    faults.push({
      reason: Number((high >> 32n) & 0xffn),
      bdf: Number(high & 0xffffn),
      iova: `0x${low.toString(16)}`,
      write: ((high >> 62n) & 1n) === 0n,
      ...(hasPasid && { pasid: Number((high >> 40n) & 0xf_ffffn) }),
    });
    unit.writeRegister64(FRCD + 8, 1n << 63n);
  }
  unit.writeReg32(FSTS, 0x1);
  return faults;
}

class Runner {
  readonly memory: SparseMemory;
  readonly unit: VtdHardware;
  readonly results: ProbeResult[] = [];
  readonly reads: { id: string; hex: string }[] = [];

  constructor(test: HardwareCase) {
    const { registers, width } = capabilitiesFor(test.model ?? {});
    this.memory = new SparseMemory([{ base: 0, size: RAM_BYTES }], fillOf(test.fill));
    this.unit = createVtdHardware({
      memory: this.memory,
      bus: silentBus,
      capabilities: registers,
      hostAddressWidthBits: width,
      compatibility: { coherentWalks: true, fullFaultAddress: true, forgetFaults: true },
    });
  }

  run(steps: readonly Step[]): void {
    for (const step of steps) this.#step(step);
  }

  #step(step: Step): void {
    if (step.op === 'mem') this.#writeMemory(step);
    else if (step.op === 'reg') this.#writeRegister(step);
    else if (step.op === 'check_reg') this.#checkRegister(step);
    else if (step.op === 'read_mem')
      this.reads.push({
        id: step.id ?? '',
        hex: this.memory.readHex(toNumber(step.addr ?? 0), toNumber(step.len ?? 4)),
      });
    else if (step.op === 'probe') this.#probe(step);
    else throw new RangeError(`unknown step ${step.op}`);
  }

  #writeMemory({ addr = 0, hex, q = [] }: Step): void {
    const base = toNumber(addr);
    if (hex !== undefined) this.memory.writeHex(base, hex);
    q.forEach((word, i) => {
      this.memory.write64(base + 8 * i, toBigint(word));
    });
  }

  #writeRegister({ off = 0, size, value = 0 }: Step): void {
    if (size === 8) this.unit.writeRegister64(toNumber(off), toBigint(value));
    else this.unit.writeReg32(toNumber(off), toNumber(value));
  }

  #checkRegister({ off = 0, size, mask, value = 0 }: Step): void {
    const held = BigInt(this.unit.readRegister(toNumber(off), size === 8 ? 8 : 4));
    const seen = held & (mask === undefined ? ~0n : toBigint(mask));
    if (seen !== toBigint(value))
      this.results.push({ id: `check_reg ${off}`, ok: false, data: `0x${seen.toString(16)}` });
  }

  #probe(step: Step): void {
    const before = takeFaults(this.unit);
    const rid = parseBdf(step.bdf ?? '00:04.0');
    const pasid = step.pasid === undefined ? -1 : toNumber(step.pasid);
    const iova = toBigint(step.iova ?? 0);
    const access = step.write ? ACCESS.WRITE : ACCESS.READ;
    const length = BigInt(step.len ?? 4);
    const segments: string[] = [];
    let ok = true;
    for (let at = iova; ok && at < iova + length; at = (at & ~0xfffn) + 0x1000n) {
      const frame = this.unit.translatePage(rid, pasid, Number(at >> 12n), access);
      const pa = frame * 4096 + Number(at & 0xfffn);
      ok = frame >= 0 && this.memory.read32(pa - (pa % 4)) !== undefined;
      segments.push(`0x${pa.toString(16)}`);
    }
    this.results.push({
      id: step.id ?? '',
      ok,
      faults: takeFaults(this.unit),
      ...(ok && { pa: segments[0] as string }),
      ...(segments.length > 1 && { segments }),
      ...(before.length > 0 && { before }),
    });
  }
}

function sameFault(want: Fault, got: Fault): boolean {
  if (want.reason !== undefined && Number(want.reason) !== Number(got.reason)) return false;
  if (want.reason_any && !want.reason_any.some((reason) => Number(reason) === Number(got.reason)))
    return false;
  if (want.bdf !== undefined && want.bdf !== got.bdf) return false;
  if (want.iova !== undefined && toBigint(want.iova) !== toBigint(got.iova ?? -1)) return false;
  if (want.write !== undefined && want.write !== got.write) return false;
  return want.pasid === undefined || Number(want.pasid) === Number(got.pasid);
}

function sameFaults(want: readonly Fault[] | undefined, got: readonly Fault[] = []): boolean {
  if (want === undefined) return true;
  return want.length === got.length && want.every((fault, i) => sameFault(fault, got[i] as Fault));
}

function sameProbe(want: Partial<ProbeResult>, got: ProbeResult): boolean {
  if (want.ok !== undefined && want.ok !== null && want.ok !== got.ok) return false;
  if (want.pa !== undefined && want.pa !== null)
    if (got.pa === undefined || toBigint(want.pa) !== toBigint(got.pa as Num)) return false;
  if (want.segments)
    if (JSON.stringify(want.segments.map(String)) !== JSON.stringify(got.segments)) return false;
  return sameFaults(want.faults, got.faults) && sameFaults(want.before, got.before);
}

function stepsOf(test: HardwareCase): readonly Step[] {
  if (test.steps) return test.steps;
  const as = (op: string, list: readonly Step[] = []) => list.map((step) => ({ ...step, op }));
  return [...as('mem', test.memory), ...as('reg', test.registers), ...as('probe', test.probes)];
}

/** Replay one case into a report. */
export function replayCase(test: HardwareCase, report: ReplayReport): void {
  const runner = new Runner(test);
  runner.run(stepsOf(test));
  const want = test.expect.results ?? [];
  const complain = (text: string) => report.different.push(`${test.name ?? 'case'}: ${text}`);
  report.cases++;
  report.probes += runner.results.length;
  if (want.length !== runner.results.length)
    complain(`${runner.results.length} results, expected ${want.length}`);
  want.forEach((expected, i) => {
    const got = runner.results[i];
    if (got === undefined) return;
    const legal = [expected, ...(test.also_legal?.[expected.id] ?? [])];
    if (!legal.some((answer) => sameProbe(answer, got)))
      complain(`${expected.id}: got ${JSON.stringify(got)}, expected ${JSON.stringify(legal)}`);
  });
  for (const { id, hex } of test.expect.memory ?? []) {
    const got = runner.reads.find((read) => read.id === id)?.hex;
    if (got !== hex) complain(`memory ${id}: got ${got}, expected ${hex}`);
  }
}

/** Replay a parsed file: one case, or `{ cases }`. Cases of other architectures are left out. */
export function replayFile(
  file: HardwareCase | { readonly cases: readonly HardwareCase[] },
  report: ReplayReport,
): void {
  const cases = 'cases' in file ? file.cases : [file];
  for (const test of cases)
    if (test.arch === undefined || test.arch === 'vtd') replayCase(test, report);
}
