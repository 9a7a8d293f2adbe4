"""Pure rules: no network, no storage, no clock. Time comes in as an argument [s, Unix]."""
