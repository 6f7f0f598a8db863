import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PasidAllocator } from '../../src/pasid/index.ts';
import { codeOf } from '../iopt-support.ts';

describe('PASID allocator', () => {
  it('gives the lowest free PASID, never 0, and -1 when all are in use', () => {
    const space = new PasidAllocator({ pasidBits: 2 });
    expect([1, 2, 3, 4].map(() => space.allocatePasid())).toEqual([1, 2, 3, -1]);
    expect(space.freePasid(2)).toBe(true);
    expect(space.freePasid(2)).toBe(false);
    expect(space.freePasid(0)).toBe(false);
    expect(space.allocatePasid()).toBe(2);
    expect(codeOf(() => space.allocate('test'))).toBe('ENOSPC');
  });

  it('answers the commands of virtual command registers without an adapter', () => {
    const behindRegisters: { allocatePasid(): number; freePasid(pasid: number): boolean } =
      new PasidAllocator({ pasidBits: 20, quota: 1 });
    expect(behindRegisters.allocatePasid()).toBe(1);
    expect(behindRegisters.allocatePasid()).toBe(-1);
    expect(behindRegisters.freePasid(1)).toBe(true);
  });

  it('keeps freed PASIDs until a flush when it parks them (S004 D3)', () => {
    const space = new PasidAllocator({ pasidBits: 2, parkFreed: true });
    const q = space.allocatePasid();
    space.free('test', q);
    expect([space.isUsed(q), space.isFree(q), space.parkedCount]).toEqual([false, false, 1]);
    expect(codeOf(() => space.reserve('test', q))).toBe('EBUSY');
    expect([space.allocatePasid(), space.allocatePasid(), space.allocatePasid()]).toEqual([
      2, 3, -1,
    ]);
    space.flushed(q);
    expect(space.allocatePasid()).toBe(q);
  });

  it.each([
    ['width 0', () => new PasidAllocator({ pasidBits: 0 }), 'EINVAL'],
    ['width 21', () => new PasidAllocator({ pasidBits: 21 }), 'EINVAL'],
    ['first outside', () => new PasidAllocator({ pasidBits: 4, firstPasid: 16 }), 'EINVAL'],
    ['quota -1', () => new PasidAllocator({ pasidBits: 4, quota: -1 }), 'EINVAL'],
    ['reserve 0', () => new PasidAllocator({ pasidBits: 4 }).reserve('t', 0), 'EINVAL'],
    ['reserve 16', () => new PasidAllocator({ pasidBits: 4 }).reserve('t', 16), 'EINVAL'],
    ['reserve 1.5', () => new PasidAllocator({ pasidBits: 4 }).reserve('t', 1.5), 'EINVAL'],
    [
      'over the quota',
      () => new PasidAllocator({ pasidBits: 4, quota: 0 }).reserve('t', 3),
      'ENOSPC',
    ],
    ['free unused', () => new PasidAllocator({ pasidBits: 4 }).free('t', 3), 'ENOENT'],
  ])('refuses %s', (_, run, code) => expect(codeOf(run)).toBe(code));

  it('agrees with three plain sets over any sequence', () => {
    const step = fc.record({
      op: fc.constantFrom('allocate', 'reserve', 'free', 'flush', 'flushAll', 'except'),
      pasid: fc.nat(17),
    });
    const programs = fc.array(step, { maxLength: 60 });
    fc.assert(
      fc.property(programs, fc.boolean(), fc.integer({ min: 1, max: 6 }), (steps, park, first) => {
        const space = new PasidAllocator({ pasidBits: 4, parkFreed: park, firstPasid: first });
        const state = new Map<number, 'used' | 'parked'>();
        const lowest = (except: number) => {
          for (let p = first; p < 16; p++) if (!state.has(p) && p !== except) return p;
          return -1;
        };
        for (const { op, pasid } of steps) {
          if (op === 'allocate' || op === 'except') {
            const except = op === 'except' ? pasid : -1;
            const want = lowest(except);
            const got = { pasid: -1 };
            const code = codeOf(() => {
              got.pasid = space.allocate('t', (p) => p !== except);
            });
            expect([got.pasid, code]).toEqual([want, want < 0 ? 'ENOSPC' : 'ok']);
            if (want >= 0) state.set(want, 'used');
          } else if (op === 'reserve') {
            const bad = pasid < 1 || pasid > 15;
            const want = bad ? 'EINVAL' : state.has(pasid) ? 'EBUSY' : 'ok';
            expect(codeOf(() => space.reserve('t', pasid))).toBe(want);
            if (want === 'ok') state.set(pasid, 'used');
          } else if (op === 'free') {
            expect(space.freePasid(pasid)).toBe(state.get(pasid) === 'used');
            if (state.get(pasid) === 'used' && park) state.set(pasid, 'parked');
            else if (state.get(pasid) === 'used') state.delete(pasid);
          } else {
            space.flushed(op === 'flush' ? pasid : undefined);
            for (const [p, how] of [...state]) {
              if (how === 'parked' && (op === 'flushAll' || p === pasid)) state.delete(p);
            }
          }
          const used = [...state].filter(([, how]) => how === 'used').map(([p]) => p);
          expect(space.used()).toEqual(used.sort((a, b) => a - b));
          expect(space.parkedCount).toBe(state.size - used.length);
        }
      }),
    );
  });
});
