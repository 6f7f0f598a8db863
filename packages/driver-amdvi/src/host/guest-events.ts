import { EVENT_BYTES, EVENT_ENTRY } from '../spec/events.ts';
import { GUEST_MODE, type GuestEntry } from './guest-entry.ts';

const { DEVICE_ID, GN } = EVENT_ENTRY.fields;

/**
 * An event as the guest's own unit would have logged it. What went wrong below the guest's tables is
 * the host's.
 *
 * @param words four u32 words of the unit's record
 * @param deviceId what the guest calls the device
 * @returns undefined when the event is not the guest's
 */
export const guestEvent = (
  words: Uint32Array,
  deviceId: number,
  { mode }: GuestEntry,
): Uint8Array | undefined => {
  const guests = ((words[GN.word] as number) & GN.mask) !== 0 || mode === GUEST_MODE.BLOCKED;
  if (!guests) return undefined;
  const bytes = new Uint8Array(EVENT_BYTES);
  const view = new DataView(bytes.buffer);
  words.forEach((word, at) => {
    view.setUint32(at * 4, word, true);
  });
  view.setUint32(0, (((words[0] as number) & ~DEVICE_ID.mask) | deviceId) >>> 0, true);
  return bytes;
};
