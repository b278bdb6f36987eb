package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	machines, err := s.readMachines()
	if err != nil {
		return nil, account{}, fmt.Errorf("read the expected machines: %w", err)
	}
	var cred credentials
	if s.Credentials == "" {
		return machines, account{}, nil
	}
	file, err := ReadJSON(s.Credentials, &cred)
	if err == nil && (cred.User == "" || cred.Password == "") {
		err = fmt.Errorf("%s: user or password is empty: want both", file.at(""))
	}
	if err != nil {
		return nil, account{}, fmt.Errorf("read the BMCs' account: %w", err)
	}
	return machines, account{cred.User, hardware.Secret(cred.Password)}, nil
}

func (s *server) readMachines() ([]fleet.Machine, error) {
	var list struct {
		Machines []fleet.Machine `json:"machines"`
	}
	if s.Machines == "" {
		return nil, nil
	}
	file, err := ReadJSON(s.Machines, &list)
	if err != nil {
		return nil, err
	}
	owners := map[string]string{} // of names and MACs
	for i := range list.Machines {
		m := &list.Machines[i]
		m.Schema = fleet.MachineSchema
		if key, err := checkMachine(m, owners); err != nil {
			return nil, fmt.Errorf("%s: %w", file.at(fmt.Sprintf("machines[%d]%s", i, key)), err)
		}
	}
	return list.Machines, nil
}

// checkMachine refuses what no machine can match, and what two would. The key
// is where the fault lies: ".name", ".macs[0]", or "" for one that is missing.
func checkMachine(m *fleet.Machine, owners map[string]string) (key string, err error) {
	if m.Name == "" {
		return "", errors.New("this machine has no name")
	}
	if !machineName.MatchString(m.Name) {
		return ".name", fmt.Errorf("name %.80q: want letters, digits, - and _, at most 63", m.Name)
	}
	if owners[m.Name] != "" {
		return ".name", fmt.Errorf("name %q stands at two machines", m.Name)
	}
	owners[m.Name] = m.Name
	if m.UUID != "" && hardware.ParseUUID(m.UUID) == "" {
		return ".uuid", fmt.Errorf("machine %s: %.80q is no UUID of one machine", m.Name, m.UUID)
	}
	for i, text := range m.MACs {
		key := fmt.Sprintf(".macs[%d]", i)
		mac := string(hardware.ParseMAC(text))
		if mac == "" {
			return key, fmt.Errorf("machine %s: %.80q is no MAC address of a NIC: want the form 52:54:00:ab:12:cd", m.Name, text)
		}
		if other := owners[mac]; other != "" {
			return key, fmt.Errorf("machine %s: MAC address %s stands at %s already", m.Name, mac, other)
		}
		owners[mac] = m.Name
	}
	return "", nil
}

// machineName is a token of a bucket's key.
var machineName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

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
