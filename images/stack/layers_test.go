package stack

import (
	"slices"
	"strings"
	"testing"
)

// A resident that is killed comes again and finds its virtual machines alive; one
// that has nothing to take up (ingot-agent's exit status 78) does not loop.
func TestResidentIsStartedAgainAndItsVMsLive(t *testing.T) {
	unit := overlay()["overlay/etc/systemd/system/ingot-resident.service"]
	lines := strings.Split(unit, "\n")
	for _, want := range []string{"Restart=always", "KillMode=process", "RestartPreventExitStatus=78", "StartLimitIntervalSec=0"} {
		if !slices.Contains(lines, want) {
			t.Errorf("ingot-resident.service lacks %s:\n%s", want, unit)
		}
	}
}
