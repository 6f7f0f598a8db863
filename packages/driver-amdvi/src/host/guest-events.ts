import { EVENT, EVENT_BYTES, EVENT_ENTRY } from '../spec/events.ts';
import { GUEST_MODE, type GuestEntry } from './guest-entry.ts';

const { DEVICE_ID, DOMAIN_ID, GN, CODE } = EVENT_ENTRY.fields;

/**
 * An event as the guest's own unit would have logged it: with its numbers for device and domain.
 * What went wrong below the guest's tables is the host's.
 *
 * @param words four u32 words of the unit's record
 * @param deviceId what the guest calls the device
 * @returns undefined when the event is not the guest's
 */
export const guestEvent = (
  words: Uint32Array,
  deviceId: number,
  { mode, domainId }: GuestEntry,
): Uint8Array | undefined => {
  const byGuestAddress = hasGuestAddress(words);
  if (!byGuestAddress && mode !== GUEST_MODE.BLOCKED) return undefined;
  const event = Uint32Array.from(words);
  replace(event, DEVICE_ID, deviceId);
  // With GN the place is the PASID's.
  if (!byGuestAddress) replace(event, DOMAIN_ID, domainId);
  const bytes = new Uint8Array(EVENT_BYTES);
  const view = new DataView(bytes.buffer);
  event.forEach((word, at) => {
    view.setUint32(at * 4, word, true);
  });
  return bytes;
};

/** Page requests are the guest's to allow; their refusal has no GN where others have it. */
const hasGuestAddress = (words: Uint32Array): boolean => {
  const code = (words[CODE.word] as number) >>> CODE.shift;
  return code === EVENT.INVALID_PPR_REQUEST || ((words[GN.word] as number) & GN.mask) !== 0;
};

const replace = (
  words: Uint32Array,
  { word, mask, shift }: { readonly word: number; readonly mask: number; readonly shift: number },
  value: number,
): void => {
  words[word] = ((words[word] as number) & ~mask) | (value << shift);
};
