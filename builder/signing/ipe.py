"""The IPE policy of every image (kernel documentation, admin-guide/LSM/ipe).

Everything that runs, and every module and firmware, must come from the dm-verity volume whose root hash is signed. The
initrd is not named: what ran there has ended, and a rule for it would be a way out.
"""

IPE_POLICY = b"""policy_name=edgeseal policy_version=0.0.1
DEFAULT action=ALLOW
DEFAULT op=EXECUTE action=DENY
DEFAULT op=FIRMWARE action=DENY
DEFAULT op=KMODULE action=DENY
DEFAULT op=KEXEC_IMAGE action=DENY
DEFAULT op=KEXEC_INITRAMFS action=DENY
op=EXECUTE dmverity_signature=TRUE action=ALLOW
op=FIRMWARE dmverity_signature=TRUE action=ALLOW
op=KMODULE dmverity_signature=TRUE action=ALLOW
op=KEXEC_IMAGE dmverity_signature=TRUE action=ALLOW
op=KEXEC_INITRAMFS dmverity_signature=TRUE action=ALLOW
"""
