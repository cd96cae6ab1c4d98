"""The reviewer's side of the audit log: verify, show, prove, compare, collect, cosign. See docs/reference/audit.md."""
