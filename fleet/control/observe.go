package control

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/boot/netboot"
	"github.com/ingot-metal/ingot/fleet"
)

const (
	observeQueue = 4096
	// observeTries is how often an event of the boot server is offered to a bus
	// that does not take it.
	observeTries = 5
)

// Observe takes an event of the boot server. It never blocks: what the queue
// does not hold is dropped and counted in the log.
func (c *Control) Observe(e netboot.Event) {
	select {
	case c.seen <- e:
	default:
		c.log.Error("boot server's event dropped: the bus does not keep up", "kind", e.Kind, "mac", e.MAC)
	}
}

func (c *Control) observe(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-c.seen:
			var err error
			for n := range observeTries {
				if err = c.record(ctx, e); err == nil || ctx.Err() != nil {
					break
				}
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(n+1) * 200 * time.Millisecond):
				}
			}
			if err != nil && ctx.Err() == nil {
				c.log.Error("boot server's event lost", "kind", e.Kind, "mac", e.MAC, "err", err)
			}
		}
	}
}

// record writes what the boot server saw under the key of the machine that it
// saw, in the attempt that it belongs to.
func (c *Control) record(ctx context.Context, e netboot.Event) error {
	kind, step, ok := wireKind(e.Kind)
	if !ok || e.MAC == (netboot.MAC{}) {
		return nil // nobody's event: an HTTP client without a lease
	}
	key, err := c.whose(e)
	if err != nil {
		return err
	}
	at := e.Time
	if at.IsZero() {
		at = time.Now()
	}
	var attempt int64
	if stage := bootStage(e.Stage); e.Kind == netboot.KindDiscover && stage != fleet.StageNone {
		a, err := c.att.firmware(ctx, key, stage, at)
		if err != nil {
			return err
		}
		attempt = a.Attempt
	} else if attempt, err = c.att.current(ctx, key); err != nil {
		return err
	}
	return c.pub.publish(ctx, key, attempt, fleet.SourceNetboot, kind, at, netbootData(e, step))
}

func netbootData(e netboot.Event, step string) fleet.NetbootData {
	d := fleet.NetbootData{
		MAC: e.MAC.String(), UUID: e.UUID, Firmware: firmwareName(e), Step: step, File: e.File,
		SizeBytes: e.Bytes, Seconds: e.Duration.Seconds(),
	}
	if e.Address.IsValid() {
		d.Address = e.Address.String()
	}
	switch {
	case e.Status >= 400:
		d.Error = strings.TrimSpace(fmt.Sprintf("status %d %s", e.Status, e.Detail))
	case e.Detail != "":
		d.Error = e.Detail
	}
	return d
}

// whose is the key of the machine that an event is about: its node's, that of
// the machine that is expected, or its MAC's.
func (c *Control) whose(e netboot.Event) (fleet.NodeID, error) {
	macs := []string{e.MAC.String()}
	aliases := append(aliasesOf(e.UUID, "", nil, nil), aliasesOf("", "", macs, nil)...)
	if id, ok := c.reg.nodeByAliases(aliases); ok {
		return id, nil
	}
	if m, ok := c.reg.machineByAliases(aliases); ok {
		return c.reg.keyOf(m), nil
	}
	return fleet.MACKey(e.MAC.String())
}

func wireKind(k netboot.Kind) (kind, step string, ok bool) {
	kind, step, _ = strings.Cut(string(k), ".")
	switch kind {
	case fleet.KindDHCP, fleet.KindTFTP, fleet.KindHTTP:
		return kind, step, true
	}
	return "", "", false
}

func bootStage(s netboot.Stage) fleet.BootStage {
	switch s {
	case netboot.StagePXE, netboot.StageHTTP:
		return fleet.StageFirmware
	case netboot.StageIPXE:
		return fleet.StageLoader
	case netboot.StageOS:
		return fleet.StageKernel
	}
	return fleet.StageNone
}

func firmwareName(e netboot.Event) string {
	name := map[netboot.Stage]string{
		netboot.StagePXE: "PXE", netboot.StageHTTP: "HTTP boot", netboot.StageIPXE: "iPXE", netboot.StageOS: "kernel",
	}[e.Stage]
	if name == "" || !e.HasArch || e.Stage == netboot.StageOS {
		return name
	}
	if e.Arch == netboot.ArchBIOS {
		return name + " BIOS"
	}
	return name + " UEFI"
}
