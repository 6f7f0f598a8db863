/** The raw path: size rules, pointers, and the same answers as typed calls. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createMachine,
  createProcess,
  IOAS_MAP,
  IOMMU_STRUCTS,
  type IoctlExtension,
  type IommufdContext,
  isIommuError,
  MAP_FLAG,
  openIommufd,
  type Process,
  sysIoctl,
  VM_PROT,
} from '../src/index.ts';
import { commandFrom, encodeStruct } from '../src/uapi/codec.ts';
import { struct, u32, u64 } from '../src/uapi/struct-table.ts';

const BUFFER = 0x2_0000_0000;
const MEMORY = 0x1_0000_0000;

const setup = (): { context: IommufdContext; process: Process } => {
  const machine = createMachine({ ramBytes: 2 ** 22 });
  const process = createProcess(machine);
  const anonymous = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
  const prot = VM_PROT.READ | VM_PROT.WRITE;
  process.mmap({ addr: BUFFER, length: 0x2000, prot, flags: anonymous });
  process.mmap({ addr: MEMORY, length: 0x10000, prot, flags: anonymous });
  return { context: openIommufd(process, machine), process };
};

const bytesOf = (...words: number[]): Uint8Array => new Uint8Array(Uint32Array.from(words).buffer);

describe('size rules (facts 1.1, in the order Linux checks)', () => {
  it.each([
    ['argument not mapped', 0x3b81, 0x9000, bytesOf(), -14],
    ['hole in the table', 0x3b96, BUFFER, bytesOf(64), -25],
    ['direction bits', 0x4000_3b81, BUFFER, bytesOf(12), -25],
    ['shorter than the minimum', 0x3b81, BUFFER, bytesOf(11, 0, 0), -22],
    ['longer with a nonzero tail', 0x3b81, BUFFER, bytesOf(16, 0, 0, 1), -7],
    ['longer with a zero tail', 0x3b81, BUFFER, bytesOf(16, 0, 0, 0), 0],
    ['longer than memory', 0x3b81, BUFFER + 0x1ff4, bytesOf(16, 0, 0), -14],
    ['exactly at the end of memory', 0x3b81, BUFFER + 0x1ff4, bytesOf(12, 0, 0), 0],
    ['unknown flags', 0x3b81, BUFFER, bytesOf(12, 1, 0), -95],
  ])('%s', (_title, request, at, bytes, expected) => {
    const { context, process } = setup();
    process.poke(at, bytes);
    expect(sysIoctl(process, context.fd, request, at)).toBe(expected);
  });

  it('an answer that cannot be written is EFAULT and leaves nothing behind', () => {
    const { context, process } = setup();
    process.poke(BUFFER, bytesOf(12, 0, 0));
    process.mprotect(BUFFER, 0x2000, VM_PROT.READ);
    expect(context.ioctl(0x3b81, BUFFER)).toBe(-14);
    expect(context.ioasAlloc()).toEqual({ outIoasId: 1 });
  });

  it('a refused raw call leaves its reason in lastRefusal', () => {
    const { context, process } = setup();
    process.poke(BUFFER, bytesOf(8, 7));
    expect(context.ioctl(0x3b80, BUFFER)).toBe(-2);
    expect(context.lastRefusal?.reason).toMatchObject({ rule: 'object-id', value: 7 });
  });
});

const command = fc.oneof(
  fc.record({ name: fc.constant('IOMMU_IOAS_ALLOC' as const), input: fc.record({}) }),
  fc.record({
    name: fc.constant('IOMMU_IOAS_MAP' as const),
    input: fc.record({
      flags: fc.integer({ min: 0, max: 8 }),
      ioasId: fc.integer({ min: 0, max: 4 }),
      userVa: fc.constantFrom(MEMORY, MEMORY + 0x800, 0n, (1n << 64n) - 1n),
      length: fc.constantFrom(0, 1, 0x1000, 0x4000, (1n << 64n) - 1n),
      iova: fc.constantFrom(0, 0x1000, 0x3000, 0x10000, (1n << 64n) - 0x1000n),
    }),
  }),
  fc.record({
    name: fc.constant('IOMMU_IOAS_UNMAP' as const),
    input: fc.record({
      ioasId: fc.integer({ min: 0, max: 4 }),
      iova: fc.constantFrom(0, 0x1000, 0x2000, 0x10000),
      length: fc.constantFrom(0, 0x1000, 0x4000, (1n << 64n) - 1n),
    }),
  }),
  fc.record({
    name: fc.constant('IOMMU_IOAS_COPY' as const),
    input: fc.record({
      flags: fc.integer({ min: 0, max: 7 }),
      dstIoasId: fc.integer({ min: 0, max: 4 }),
      srcIoasId: fc.integer({ min: 0, max: 4 }),
      length: fc.constantFrom(0, 0x800, 0x1000, 0x4000),
      dstIova: fc.constantFrom(0, 0x1000, 0x9000),
      srcIova: fc.constantFrom(0, 0x1000, 0x1800, 0x10000),
    }),
  }),
  fc.record({
    name: fc.constant('IOMMU_DESTROY' as const),
    input: fc.record({ id: fc.integer({ min: 0, max: 4 }) }),
  }),
);

describe('typed and raw calls', () => {
  it('answer the same, call for call (random sequences)', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 25 }), (commands) => {
        const typed = setup();
        const raw = setup();
        for (const { name, input } of commands) {
          const spec = IOMMU_STRUCTS[name];
          let errno = 0;
          let answer: object = {};
          try {
            answer = typed.context.call(name, input as never);
          } catch (error) {
            if (!isIommuError(error)) throw error;
            errno = -error.errno;
            expect(error.op).toBe(name);
            expect(error.reason.message.length).toBeGreaterThan(0);
          }
          const bytes = new Uint8Array(spec.size);
          encodeStruct(spec, commandFrom(spec, input), bytes);
          new DataView(bytes.buffer).setUint32(0, spec.size, true);
          raw.process.poke(BUFFER, bytes);
          expect(raw.context.ioctl(spec.ioctl, BUFFER)).toBe(errno);
          if (errno < 0) continue;
          encodeStruct(spec, { ...commandFrom(spec, input), ...answer }, bytes);
          expect(raw.process.peek(BUFFER, spec.size)).toEqual(bytes);
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('buffers kept between calls', () => {
  const spec = struct(0x3ba0, 16, 8, { value: u32(4), tail: u64(8, 'opt') });
  const at = (offset: number): number => BUFFER + offset;

  /** A context with one more ioctl, and what it finds in its struct. */
  const extended = (serve: (bytes: Uint8Array, context: IommufdContext) => void) => {
    const machine = createMachine({ ramBytes: 2 ** 22 });
    const process = createProcess(machine);
    process.mmap({ addr: BUFFER, length: 0x1000 });
    const extension: IoctlExtension = {
      name: 'EXTENSION',
      spec,
      serve: (call, bytes) => serve(bytes, call.context),
    };
    return { process, context: openIommufd(process, machine, { extensions: [extension] }) };
  };

  it('a shorter struct sees zeros, not the tail of the call before', () => {
    const seen: number[][] = [];
    const { context, process } = extended((bytes) =>
      seen.push([...new Uint32Array(bytes.slice().buffer)]),
    );
    process.poke(at(0), bytesOf(16, 1, 2, 3));
    process.poke(at(64), bytesOf(8, 4, 5, 6));
    expect([context.ioctl(spec.ioctl, at(0)), context.ioctl(spec.ioctl, at(64))]).toEqual([0, 0]);
    expect(seen).toEqual([
      [16, 1, 2, 3],
      [8, 4, 0, 0],
    ]);
    expect(process.peek(at(64), 16)).toEqual(bytesOf(8, 4, 5, 6));
  });

  it('a call made while the same one is served leaves its struct alone', () => {
    const { context, process } = extended((bytes, inner) => {
      if (bytes[4] === 1) expect(inner.ioctl(spec.ioctl, at(64))).toBe(0);
      bytes[8] = 10 + (bytes[4] as number);
    });
    process.poke(at(64), bytesOf(16, 2, 0, 0));
    expect(context.ioctl(spec.ioctl, at(64))).toBe(0); // leaves a buffer behind
    process.poke(at(0), bytesOf(16, 1, 0, 0));
    process.poke(at(64), bytesOf(16, 2, 0, 0));
    expect(context.ioctl(spec.ioctl, at(0))).toBe(0);
    expect(process.peek(at(0), 16)).toEqual(bytesOf(16, 1, 11, 0));
    expect(process.peek(at(64), 16)).toEqual(bytesOf(16, 2, 12, 0));
  });
});

describe('hostile callers', () => {
  it('no request, size, pointer or field makes a call throw (random bytes)', () => {
    const { context, process } = setup();
    const request = fc.oneof(
      fc.integer({ min: 0x3b60, max: 0x3ba8 }),
      fc.integer({ min: 0, max: 0xffff_ffff }),
    );
    fc.assert(
      fc.property(
        request,
        fc.constantFrom(BUFFER, BUFFER + 0x1fe0, BUFFER + 0x1fff, 0, MEMORY - 4),
        fc.constantFrom(0, 8, 12, 24, 40, 48, 4096, 0xffff_ffff),
        fc.uint8Array({ minLength: 64, maxLength: 64 }),
        (code, at, size, bytes) => {
          new DataView(bytes.buffer).setUint32(0, size, true);
          process.poke(BUFFER, bytes);
          const result = context.ioctl(code, at);
          expect(Number.isInteger(result)).toBe(true);
        },
      ),
      { numRuns: 3000 },
    );
  });

  it('maps with the FIXED flag answer the IOVA that was asked for', () => {
    const { context } = setup();
    const { outIoasId: ioasId } = context.ioasAlloc();
    const flags = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE;
    const map = { ioasId, flags, userVa: MEMORY, length: 0x1000, iova: 0x5000 };
    expect(context.ioasMap(map)).toEqual({ iova: 0x5000n });
    expect(() => context.ioasMap(map)).toThrow(/EEXIST/);
  });
});
