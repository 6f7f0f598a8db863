import { library } from '@iommukit-internal/build/tsup';

export default library();
