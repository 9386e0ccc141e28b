//go:build !linux

package checks

import "runtime"

func newOSService(d *Definition, o Options) (Check, error) {
	const why = "os_service checks are not supported by this agent on " + runtime.GOOS
	o.Log.Error(why)
	return unsupported{d.ID, why, o.Notify}, nil
}
