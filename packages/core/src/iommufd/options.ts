/**
 * `IOMMU_OPTION`: settings of a context or of an object.
 *
 * @linux drivers/iommu/iommufd/main.c iommufd_option, ioas.c iommufd_ioas_option
 * @module
 */
import { OPTION, OPTION_OP } from '../uapi/constants.ts';
import { IOMMU_STRUCTS, type IommuCommand } from '../uapi/structs.ts';
import type { Call } from './call.ts';

type OptionCommand = IommuCommand<'IOMMU_OPTION'>;

/** The only member that is written back. */
const VAL64_AT = IOMMU_STRUCTS.IOMMU_OPTION.fields.val64.at;

/** `IOMMU_OPTION`. */
export const option = (call: Call, command: OptionCommand): void => {
  call.answersFrom = VAL64_AT;
  call.checkReserved(command.reserved);
  if (command.optionId === OPTION.RLIMIT_MODE) rlimitMode(call, command);
  else if (command.optionId === OPTION.HUGE_PAGES) hugePages(call, command);
  else {
    throw call.refuse('EOPNOTSUPP', 'option-id', `no option ${command.optionId}`, {
      value: command.optionId,
      accepted: 'RLIMIT_MODE 0, HUGE_PAGES 1',
    });
  }
};

/** How pinned pages are charged: 0 to the user, 1 to the process. */
const rlimitMode = (call: Call, command: OptionCommand): void => {
  const { context, process } = call;
  if (command.objectId !== 0) {
    throw call.refuse('EOPNOTSUPP', 'option-object', 'this option belongs to the whole context', {
      value: command.objectId,
      accepted: 'object_id 0',
    });
  }
  if (command.op === OPTION_OP.GET) {
    command.val64 = context.accountPerProcess ? 1 : 0;
    return;
  }
  if (command.op !== OPTION_OP.SET) throw unknownOp(call, command.op);
  if (!process.capabilities.has('CAP_SYS_RESOURCE')) {
    throw call.refuse('EPERM', 'capability', 'changing the accounting needs CAP_SYS_RESOURCE');
  }
  if (!context.objects.isEmpty) {
    throw call.refuse('EBUSY', 'context-in-use', 'the context has objects already', {
      accepted: 'set it before the first object is made',
    });
  }
  if (command.val64 > 1) throw badValue(call, command.val64);
  context.accountPerProcess = command.val64 > 0;
};

/** Whether an IOAS may use large pages. */
const hugePages = (call: Call, command: OptionCommand): void => {
  const ioas = call.context.find(call.op, command.objectId, 'IOAS');
  if (command.op === OPTION_OP.GET) {
    command.val64 = ioas.largePagesDisabled ? 0 : 1;
    return;
  }
  if (command.op !== OPTION_OP.SET) throw unknownOp(call, command.op);
  if (command.val64 > 1) throw badValue(call, command.val64);
  if (command.val64 < 1) ioas.disableLargePages(call.op);
  else ioas.enableLargePages();
};

const unknownOp = (call: Call, op: number) =>
  call.refuse('EOPNOTSUPP', 'option-op', `no operation ${op}`, {
    value: op,
    accepted: 'SET 0, GET 1',
  });

const badValue = (call: Call, value: number | bigint) =>
  call.refuse('EINVAL', 'option-value', `the option cannot be ${value}`, {
    value,
    accepted: '0 or 1',
  });
