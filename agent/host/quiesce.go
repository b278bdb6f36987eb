package host

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Quiesce readies the machine for a jump into another kernel: NICs down, what
// was mounted from a drive unmounted, buffers written. The kernel's own
// device shutdown follows at the jump. Whatever is said on the bus must be said
// before. Each step is tried; the error joins what went wrong, and the jump
// may go on with it.
func Quiesce() error {
	errs := []error{NetworkDown()}
	points, err := driveMounts("/proc/self/mounts")
	errs = append(errs, err)
	for i := len(points) - 1; i >= 0; i-- { // the last mounted first
		if err := unix.Unmount(points[i], 0); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", points[i], err))
		}
	}
	unix.Sync()
	return errors.Join(errs...)
}

// driveMounts lists where a block device is mounted.
func driveMounts(mounts string) ([]string, error) {
	b, err := os.ReadFile(mounts)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var points []string
	for line := range strings.Lines(string(b)) {
		if w := strings.Fields(line); len(w) > 1 && strings.HasPrefix(w[0], "/dev/") {
			points = append(points, unescapeMount(w[1]))
		}
	}
	return points, nil
}

// unescapeMount undoes proc(5)'s octal escapes.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
