/**
 * Which cache entries are there, by the keys of the sanitizer.
 */
import type { Caches } from './caches.ts';
import type { InterruptCache } from './interrupt-cache.ts';
import { interruptKey } from './sanitizer-interrupts.ts';
import { permissionKey } from './sanitizer-permissions.ts';
import { pageKey, pasidKey } from './sanitizer-provenance.ts';

/** Keys of every entry of every cache. */
export function liveKeys(
  { iotlb, context, pasid, hostPermission }: Caches,
  interrupts: InterruptCache,
): Set<string> {
  return new Set([
    ...iotlb
      .entries()
      .map(({ source, pageLg2, iovaPfn }) =>
        pageKey(source, pageLg2, iovaPfn / 2 ** (pageLg2 - 12)),
      ),
    ...context.requesters().map((rid) => `context/${rid}`),
    ...pasid.entries().map((entry) => `pasid/${pasidKey(entry.rid, entry.pasid)}`),
    ...hostPermission.entries().map(permissionKey),
    ...interrupts.entries().map(({ index }) => interruptKey(index)),
  ]);
}
