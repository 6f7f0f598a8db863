/**
 * The gate between a guest's ENQCMD and a device's work portal, as a state machine: plain states,
 * pure steps. While translation is off, the CPU sends the guest's PASID as it is, and portals of
 * mediated devices stay shut, since that number means something else behind them. With the first
 * translation the CPU converts every PASID; portals of whole devices shut then.
 * @module
 */
import { refuse } from '../errors.ts';
import { pasidPolicy } from './device-types.ts';

/** Bit 31 of IA32_PASID: the PASID in bits 19:0 is valid. @spec Intel SDM 4, IA32_PASID (D93H) */
const MSR_VALID = 0x8000_0000;
const MSR_PASID_MASK = 0xf_ffff;
const LAST_PASID = 0xf_ffff;

/** Where the gate of one guest stands. Translation is on when `ppasids` has an entry. */
export interface EnqcmdState {
  /** PASID on the wire by the guest's PASID. */
  readonly ppasids: ReadonlyMap<number, number>;
}

/** What becomes of one ENQCMD. */
export type EnqcmdOutcome =
  /** Work reaches the device with this PASID. */
  | { readonly kind: 'sent'; readonly pasid: number }
  /** The portal is shut; nothing reaches the device. */
  | { readonly kind: 'blocked'; readonly why: 'not-enqcmd' | 'needs-translation' | 'translated' }
  /** #GP in the guest: no valid PASID in the MSR. */
  | { readonly kind: 'general-protection' }
  /** The CPU leaves the guest: this PASID has no translation. */
  | { readonly kind: 'vm-exit'; readonly vpasid: number };

/** Before anything is mapped. */
export const ENQCMD_INITIAL: EnqcmdState = { ppasids: new Map() };

/** Whether the CPU converts PASIDs of the guest. */
export const isTranslating = ({ ppasids }: EnqcmdState): boolean => ppasids.size > 0;

/**
 * Map a guest's PASID (KVM_MAP_PASID). The same pair again changes nothing.
 *
 * @throws {IommuError} EINVAL for a PASID outside 1 to 2^20 - 1; EEXIST when it has another
 * translation
 */
export const enqcmdMap = (state: EnqcmdState, vpasid: number, ppasid: number): EnqcmdState => {
  const op = 'KVM_MAP_PASID';
  checkPasid(op, vpasid);
  checkPasid(op, ppasid);
  const old = state.ppasids.get(vpasid);
  if (old === ppasid) return state;
  if (old !== undefined) {
    throw refuse('EEXIST', op, 'pasid-mapped', `PASID ${vpasid} is mapped to ${old}`, {
      value: vpasid,
      accepted: `${old}, or unmap it first`,
    });
  }
  return { ppasids: new Map([...state.ppasids, [vpasid, ppasid]]) };
};

/**
 * Unmap a guest's PASID (KVM_UNMAP_PASID); with the last one translation is off.
 *
 * @throws {IommuError} ENOENT
 */
export const enqcmdUnmap = (state: EnqcmdState, vpasid: number): EnqcmdState => {
  if (!state.ppasids.has(vpasid)) {
    throw refuse('ENOENT', 'KVM_UNMAP_PASID', 'pasid-unmapped', `PASID ${vpasid} is not mapped`, {
      value: vpasid,
      accepted: [...state.ppasids.keys()].join(', ') || 'map one first',
    });
  }
  return { ppasids: new Map([...state.ppasids].filter(([mapped]) => mapped !== vpasid)) };
};

/**
 * A guest's thread submits work.
 *
 * @param type kind of the device behind the portal
 * @param msr low 32 bits of IA32_PASID of the thread
 */
export const enqcmdSubmit = (state: EnqcmdState, type: number, msr: number): EnqcmdOutcome => {
  if ((msr & MSR_VALID) >>> 0 !== MSR_VALID) return { kind: 'general-protection' };
  const vpasid = msr & MSR_PASID_MASK;
  const policy = pasidPolicy(type);
  if (!policy?.enqcmd) return { kind: 'blocked', why: 'not-enqcmd' };
  const translating = isTranslating(state);
  if (translating === policy.identity) {
    return { kind: 'blocked', why: translating ? 'translated' : 'needs-translation' };
  }
  if (!translating) return { kind: 'sent', pasid: vpasid };
  const pasid = state.ppasids.get(vpasid);
  return pasid === undefined ? { kind: 'vm-exit', vpasid } : { kind: 'sent', pasid };
};

const checkPasid = (op: string, pasid: number): void => {
  if (Number.isInteger(pasid) && pasid >= 1 && pasid <= LAST_PASID) return;
  throw refuse('EINVAL', op, 'pasid-range', `PASID ${pasid} is out of range`, {
    value: pasid,
    accepted: `1 to ${LAST_PASID}`,
  });
};
