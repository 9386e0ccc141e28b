//go:build unix

package config

import "syscall"

// maxOpenFiles is the soft limit on open files.
func maxOpenFiles() (uint64, bool) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil || lim.Cur > 1<<62 {
		return 0, false
	}
	return uint64(lim.Cur), true
}
