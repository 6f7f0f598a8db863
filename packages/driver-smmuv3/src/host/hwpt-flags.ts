/** `enum iommufd_hwpt_alloc_flags`, those that reach a driver. */
export const HWPT_ALLOC = { NEST_PARENT: 1, DIRTY_TRACKING: 2, PASID: 8 } as const;
