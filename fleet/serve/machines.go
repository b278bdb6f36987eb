package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ingot-metal/ingot/boot/netboot"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
)

// maxFileBytes bounds the files of machines and credentials.
const maxFileBytes = 16 << 20

// credentials are the one account that control uses at the BMCs.
type credentials struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// account is credentials with the password as a secret.
type account struct {
	User     string
	Password hardware.Secret
}

// inputs reads the files that operators name.
func (s *server) inputs() ([]fleet.Machine, account, error) {
	var list struct {
		Machines []fleet.Machine `json:"machines"`
	}
	var cred credentials
	if s.Machines != "" {
		if err := readJSON(s.Machines, &list); err != nil {
			return nil, account{}, fmt.Errorf("read the expected machines: %w", err)
		}
	}
	if s.Credentials != "" {
		if err := readJSON(s.Credentials, &cred); err != nil {
			return nil, account{}, fmt.Errorf("read the BMCs' account: %w", err)
		}
	}
	seen := map[string]bool{}
	for i := range list.Machines {
		m := &list.Machines[i]
		m.Schema = fleet.MachineSchema
		if !machineName.MatchString(m.Name) || seen[m.Name] {
			return nil, account{}, fmt.Errorf("read the expected machines: %s: name %.80q is malformed or stands twice", s.Machines, m.Name)
		}
		seen[m.Name] = true
	}
	return list.Machines, account{cred.User, hardware.Secret(cred.Password)}, nil
}

// machineName is a token of a bucket's key.
var machineName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

func readJSON(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return err
	}
	if len(b) > maxFileBytes {
		return fmt.Errorf("%s is larger than %d bytes", path, maxFileBytes)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%s at byte %d: %w", path, d.InputOffset(), err)
	}
	return nil
}

// putMachines writes the expected machines into the config bucket, where they
// are not yet as the file has them. Others stay.
func putMachines(ctx context.Context, nc *nats.Conn, machines []fleet.Machine) error {
	if len(machines) == 0 {
		return nil
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("store the expected machines: %v", err)
	}
	kv, err := js.KeyValue(ctx, fleet.BucketConfig)
	if err != nil {
		return fmt.Errorf("store the expected machines: %w", err)
	}
	for _, m := range machines {
		b, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("store machine %s: %v", m.Name, err)
		}
		key := fleet.ConfigMachine + m.Name
		old, err := kv.Get(ctx, key)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			_, err = kv.Create(ctx, key, b)
		case err == nil && !bytes.Equal(old.Value(), b):
			_, err = kv.Update(ctx, key, b, old.Revision())
		}
		if err != nil {
			return fmt.Errorf("store machine %s: %w", m.Name, err)
		}
	}
	return nil
}

// knownMachines says whom DHCP answers: in the lab everybody, elsewhere the
// machines that are expected, by MAC. Others are seen and not answered.
func (s *server) knownMachines() func(netboot.Machine) bool {
	if s.Lab {
		return netboot.AnyMachine
	}
	macs := map[hardware.MAC]bool{}
	for _, m := range s.expected {
		for _, mac := range m.MACs {
			if p := hardware.ParseMAC(mac); p != "" {
				macs[p] = true
			}
		}
	}
	return func(m netboot.Machine) bool { return macs[hardware.MAC(m.MAC.String())] }
}
