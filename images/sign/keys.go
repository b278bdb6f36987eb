package sign

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ingot-metal/ingot/images"
)

// Keyring is the keys of one directory: root.pub, and the operator's and the
// reconciler's keys with the delegations that the root signed for them.
type Keyring struct {
	Root       ed25519.PublicKey
	Operator   ed25519.PrivateKey
	Reconciler ed25519.PrivateKey
	// Delegations of operator and reconciler, in this order.
	Delegations []images.Envelope
	Lab         bool
}

// Roots returns the trust roots that accept this keyring.
func (k Keyring) Roots() Roots { return Roots{Keys: []ed25519.PublicKey{k.Root}, Lab: k.Lab} }

// delegationLife is how long a delegation made by [Create] holds.
const delegationLife = 365 * 24 * time.Hour

const (
	rootKeyFile   = "root.key"
	rootPubFile   = "root.pub"
	delegationExt = ".delegation.json"
)

// OpenOrCreate reads the keyring of dir, or makes one where dir holds none. A
// directory that holds half a keyring is refused and left as it is.
func OpenOrCreate(dir string, lab bool, now time.Time) (Keyring, error) {
	_, err := os.Stat(filepath.Join(dir, rootPubFile))
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(dir, lab, now); err != nil {
			return Keyring{}, err
		}
	}
	return Load(dir)
}

// create makes a keyring in dir, beside its place first: a disk that is full
// leaves no half of one. No key is ever overwritten.
func create(dir string, lab bool, now time.Time) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make key directory: %w", err)
	}
	made, err := os.MkdirTemp(dir, ".new-*") // 0700
	if err != nil {
		return fmt.Errorf("make key directory: %w", err)
	}
	err = fill(made, lab, now)
	if err == nil {
		err = settle(made, dir)
	}
	return errors.Join(err, os.RemoveAll(made))
}

// settle moves the files of a keyring to their places, unless one is taken.
func settle(made, dir string) error {
	var names []string
	for _, role := range []images.Role{images.RoleOperator, images.RoleReconciler} {
		names = append(names, string(role)+".key", string(role)+delegationExt)
	}
	names = append(names, rootKeyFile, rootPubFile) // the last one marks it as whole
	for _, name := range names {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make keyring: %s is there already, and %s is not: put it back, or name another directory", path, rootPubFile)
		}
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(made, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("make keyring: %w", err)
		}
	}
	return nil
}

// fill makes a root key, and an operator and a reconciler key delegated by it.
func fill(dir string, lab bool, now time.Time) error {
	pub, root, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make root key: %v", err)
	}
	if err := writeKey(filepath.Join(dir, rootKeyFile), root); err != nil {
		return err
	}
	for _, role := range []images.Role{images.RoleOperator, images.RoleReconciler} {
		if err := delegate(dir, root, role, lab, now); err != nil {
			return err
		}
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return fmt.Errorf("write root.pub: %v", err)
	}
	return writeNew(filepath.Join(dir, rootPubFile), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644)
}

func delegate(dir string, root ed25519.PrivateKey, role images.Role, lab bool, now time.Time) error {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make %s key: %v", role, err)
	}
	if err := writeKey(filepath.Join(dir, string(role)+".key"), key); err != nil {
		return err
	}
	e, _, err := SignJSON(root, images.DelegationType, images.Delegation{
		Schema: images.DelegationSchema, Role: role, PublicKey: pub,
		NotBefore: now.UTC().Truncate(time.Second), NotAfter: now.Add(delegationLife).UTC().Truncate(time.Second), Lab: lab,
	})
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("write delegation of %s: %v", role, err)
	}
	return writeNew(filepath.Join(dir, string(role)+delegationExt), b, 0o644)
}

// Load reads the keyring of dir and checks that root and delegations agree.
func Load(dir string) (Keyring, error) {
	var k Keyring
	b, err := os.ReadFile(filepath.Join(dir, rootPubFile))
	if err != nil {
		return k, fmt.Errorf("read keyring: %w", err)
	}
	if k.Root, err = parsePublic(b); err != nil {
		return k, fmt.Errorf("read %s: %v", filepath.Join(dir, rootPubFile), err)
	}
	for _, role := range []images.Role{images.RoleOperator, images.RoleReconciler} {
		key, err := readKey(filepath.Join(dir, string(role)+".key"))
		if err != nil {
			return k, err
		}
		path := filepath.Join(dir, string(role)+delegationExt)
		var e images.Envelope
		if b, err = os.ReadFile(path); err == nil {
			err = json.Unmarshal(b, &e)
		}
		if err != nil {
			return k, fmt.Errorf("read %s: %w", path, err)
		}
		d, err := Roots{Keys: []ed25519.PublicKey{k.Root}, Lab: true}.delegation(e, time.Time{})
		if err != nil {
			return k, fmt.Errorf("read %s: %w", path, err)
		}
		if d.Role != role || !key.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(d.PublicKey)) {
			return k, fmt.Errorf("read %s: it does not delegate to %s.key", path, role)
		}
		k.Lab = k.Lab || d.Lab
		k.Delegations = append(k.Delegations, e)
		if role == images.RoleOperator {
			k.Operator = key
		} else {
			k.Reconciler = key
		}
	}
	return k, nil
}

func parsePublic(b []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("no PEM block PUBLIC KEY")
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	pub, ok := k.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("is a %T, want Ed25519", k)
	}
	return pub, nil
}

func writeKey(path string, key ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("write %s: %v", path, err)
	}
	return writeNew(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// writeNew writes a file that must not exist yet: no key is ever overwritten.
func writeNew(path string, b []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func readKey(path string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("read %s: no PEM block PRIVATE KEY", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read %s: %v", path, err)
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read %s: is a %T, want Ed25519", path, k)
	}
	return key, nil
}
