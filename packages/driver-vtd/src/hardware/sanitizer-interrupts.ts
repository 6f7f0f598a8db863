/**
 * Whether interrupt entry cache entries say what the interrupt remapping table says now.
 *
 * @spec VT-d 6.4 (interrupt entry cache), 6.7 (set interrupt remapping table pointer)
 */
import { hex } from '@iommukit/bits';
import { IRTE } from '../spec/interrupt-entry.ts';
import type { InterruptRemapper } from './interrupt-remapping.ts';
import type { StaleFacts } from './sanitizer-audit.ts';

/** Bits that software may change as it likes. */
const { AVAIL } = IRTE.fields;

/** Key of a cached entry. */
export const interruptKey = (index: number): string => `interrupt/${index}`;

const text = (words: ArrayLike<number>) => Array.from(words, (word) => hex(word >>> 0)).join(' ');

const differs = (a: ArrayLike<number>, b: ArrayLike<number>): boolean =>
  Array.from(a).some(
    (word, i) => ((word ^ (b[i] as number)) & ~(i === AVAIL.word ? AVAIL.mask : 0)) !== 0,
  );

/** What a cached entry should not say any more; undefined = it is right. */
export function staleInterrupt(
  index: number,
  words: ArrayLike<number>,
  remapper: InterruptRemapper,
  found: 'use' | 'audit',
): StaleFacts | undefined {
  const now = remapper.entryNow(index);
  if (now !== undefined && !differs(words, now)) return undefined;
  return {
    kind: 'stale-interrupt',
    found,
    rid: -1,
    pasid: -1,
    iovaPfn: -1,
    interruptIndex: index,
    did: -1,
    cached: `interrupt entry ${index}: ${text(words)}`,
    fresh: now === undefined ? 'no such entry' : text(now),
  };
}
