/**
 * Numbers by which vendor parts of the vIOMMU interface are named. Linux 7.3 has none for AMD: these
 * are this driver's own, away from those that the kernel counts up from 1.
 */

/** Type of {@link https://docs.kernel.org/userspace-api/iommufd.html | a vIOMMU}; any is taken. */
export const VIOMMU_TYPE_AMD = 3;

/** Entries of `IOMMU_HWPT_INVALIDATE` on a vIOMMU: commands of 16 bytes as the guest wrote them. */
export const VIOMMU_INVALIDATE_DATA_AMD = 0x414d_4400;

/** Events of a vIOMMU: entries of 16 bytes as the guest's event log would have them. */
export const VEVENTQ_TYPE_AMD = 0x414d_4401;
