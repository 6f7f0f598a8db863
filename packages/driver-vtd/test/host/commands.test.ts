/** Bits of commands that the hardware model ignores, because it keeps no walk caches. */
import { afterEach, describe, expect, it } from 'vitest';
import { InvalidationQueue } from '../../src/host/invalidation-queue.ts';
import { attach, bench, map, nest, paging, SVA_DEVICE } from './fixture.ts';

const { push } = InvalidationQueue.prototype;

interface PageCommand {
  readonly type: number;
  readonly did: number;
  readonly startPfn: number;
  readonly am: number;
  /** Only leaves changed. */
  readonly ih: boolean;
}

/** Page-selective IOTLB and P_IOTLB commands that `act` sends. */
const pageCommands = (act: () => void): PageCommand[] => {
  const seen: PageCommand[] = [];
  InvalidationQueue.prototype.push = function (...words) {
    const [w0, , w2, w3] = words;
    const type = w0 & 0xf;
    if ((type === 2 || type === 6) && ((w0 >>> 4) & 3) === 3) {
      const startPfn = (w3 >>> 0) * 2 ** 20 + (w2 >>> 12);
      seen.push({ type, did: w0 >>> 16, startPfn, am: w2 & 0x3f, ih: (w2 & 0x40) !== 0 });
    }
    push.apply(this, words);
  };
  act();
  InvalidationQueue.prototype.push = push;
  return seen;
};

afterEach(() => {
  InvalidationQueue.prototype.push = push;
});

describe('VT-d 6.5.2.3: page-selective commands', () => {
  it.each([
    ['second stage', { firstStageByDefault: false }, 2],
    ['first stage', {}, 6],
  ])('%s: IH only when no table entry changed', (_name, options, type) => {
    const at = bench(options);
    const domain = paging(at);
    attach(at, domain);
    map(domain, 0x200, 1, 4);
    map(domain, 0x500, 1, 1);
    const drop = (frame: number, count: number) =>
      pageCommands(() => {
        domain.unmap(frame, count);
        domain.sync();
      });
    expect(drop(0x200, 1)).toEqual([{ type, did: 2, startPfn: 0x200, am: 0, ih: true }]);
    expect(drop(0x200, 0x200)).toEqual([{ type, did: 2, startPfn: 0x200, am: 9, ih: false }]);
    expect(drop(0x300, 1)).toEqual([]);
  });

  it('below a guest walks are dropped too: a changed leaf may be a step of its walk', () => {
    const at = bench({}, [SVA_DEVICE, { rid: '00:06.0' }]);
    const { parent, guest } = nest(at);
    attach(at, parent, -1, at.devices[1]);
    const gfn = guest.page();
    const commands = pageCommands(() => {
      parent.unmap(gfn, 1);
      parent.sync();
    });
    expect(commands.map(({ did, ih }) => [did, ih])).toEqual([
      [2, false],
      [3, true],
    ]);
  });

  it('a large leaf that reaches out of the range is covered as a whole', () => {
    const at = bench({ firstStageByDefault: false });
    const domain = paging(at);
    attach(at, domain);
    map(domain, 512, 512, 512);
    const commands = pageCommands(() => {
      expect(domain.unmap(512, 3)).toBe(512);
      domain.sync();
    });
    expect(commands).toMatchObject([{ startPfn: 512, am: 9 }]);
  });

  it('a guest decides IH by its LEAF flag', () => {
    const at = bench({}, [SVA_DEVICE]);
    const { nested } = nest(at, 5);
    const send = (flags: number) =>
      pageCommands(() => {
        const entry = new Uint8Array(24);
        new DataView(entry.buffer).setUint32(0, 0x7000, true);
        new DataView(entry.buffer).setUint32(8, 3, true);
        new DataView(entry.buffer).setUint32(16, flags, true);
        nested.invalidate?.({
          type: 0,
          entryLength: 24,
          entryCount: 1,
          done: 0,
          copyEntry: () => entry,
          copyAll: () => entry,
        });
      });
    expect(send(0)).toEqual([{ type: 6, did: 2, startPfn: 0, am: 4, ih: false }]);
    expect(send(1)).toEqual([{ type: 6, did: 2, startPfn: 0, am: 4, ih: true }]);
  });
});
