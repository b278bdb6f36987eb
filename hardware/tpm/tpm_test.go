package tpm

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// startSWTPM runs a software TPM for the test.
func startSWTPM(t *testing.T) transport.TPMCloser {
	t.Helper()
	bin, err := exec.LookPath("swtpm")
	if err != nil {
		t.Skip("no swtpm here (package swtpm)")
	}
	dir, err := os.MkdirTemp("", "ingot-tpm") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(bin, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket,
		"--ctrl", "type=unixio,path="+socket+"c", "--flags", "not-need-init,startup-clear")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for range 500 {
		if c, err := linuxudstpm.Open(socket); err == nil {
			return c
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("swtpm does not come up: %s", said.String())
	return nil
}

// der is what counts as a certificate, and what a maker fills its index up
// with.
func der(t *testing.T) []byte {
	t.Helper()
	b, err := asn1.Marshal(struct {
		A int
		B string
	}{7, strings.Repeat("certificate ", 60)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// provision writes a certificate as a maker does.
func provision(t *testing.T, c transport.TPM, index tpm2.TPMHandle, content []byte) {
	t.Helper()
	public := tpm2.TPMSNVPublic{NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(content)),
		Attributes: tpm2.TPMANV{PPWrite: true, PPRead: true, OwnerRead: true, AuthRead: true, NoDA: true, PlatformCreate: true, WriteAll: false}}
	if _, err := (tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHPlatform, PublicInfo: tpm2.New2B(public)}).Execute(c); err != nil {
		t.Fatal(err)
	}
	r, err := tpm2.NVReadPublic{NVIndex: index}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(content); at += 256 {
		if _, err := (tpm2.NVWrite{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)},
			NVIndex: tpm2.NamedHandle{Handle: index, Name: r.NVName},
			Data:    tpm2.TPM2BMaxNVBuffer{Buffer: content[at:min(at+256, len(content))]}, Offset: uint16(at)}).Execute(c); err != nil {
			t.Fatal(err)
		}
	}
}

// keep is a connection that stays open between two reads.
type keep struct{ transport.TPM }

func (keep) Close() error { return nil }

// TestSWTPM asks a TPM of software, records it, and reads the record.
func TestSWTPM(t *testing.T) {
	c := startSWTPM(t)
	defer c.Close()
	recorded := map[string][]byte{}
	ask := func() hardware.TPM {
		t.Helper()
		ctx := sysfs.WithRecorder(t.Context(), func(name string, b []byte) { recorded[name] = bytes.Clone(b) })
		var got hardware.TPM
		if err := (&chip{ctx: ctx, root: "/", open: func() (transport.TPMCloser, error) { return keep{c}, nil }}).into(&got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	first, second := ask(), ask()
	if d := cmp.Diff(first, second); d != "" {
		t.Errorf("two reads differ: %s", d)
	}
	if first.Manufacturer != "IBM" || strings.Count(first.Firmware, ".") != 3 || first.EKPublic == "" || first.EKCertificate != "" || len(first.PCRBanks) == 0 {
		t.Errorf("without a certificate: %+v", first)
	}
	cert := der(t)
	provision(t, c, certificateRSA, append(bytes.Clone(cert), bytes.Repeat([]byte{0xff}, 200)...))
	rsa := ask()
	if rsa.EKCertificate != digest(cert) || rsa.EKPublic == first.EKPublic {
		t.Errorf("with an RSA certificate: %+v; want its digest %s, and the RSA key", rsa, digest(cert))
	}
	r, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: 0x80000000, PropertyCount: 8}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := r.CapabilityData.Data.Handles(); err != nil || len(list.Handle) != 0 {
		t.Errorf("handles left behind: %v, %v", list, err)
	}

	root := t.TempDir()
	recorded[class+"/tpm_version_major"] = []byte("2\n")
	for name, b := range recorded {
		if !strings.HasPrefix(name, "sys/") {
			name = "answers/" + name
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	inv, err := Read(t.Context(), sysfs.Root(root))
	rsa.Version, rsa.Sources = "2.0", hardware.Sources{Source}
	if d := cmp.Diff(rsa, inv.TPM); d != "" || err != nil {
		t.Errorf("the record = %v (-want +got):\n%s", err, d)
	}
}

func plant(t *testing.T, files map[string]string) sysfs.Root {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		p := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return sysfs.Root(root)
}

func TestWhatSysfsSays(t *testing.T) {
	inv, err := Read(t.Context(), plant(t, map[string]string{class + "/device/caps": "Manufacturer: 0x49465800\nTCG version: 1.2\nFirmware version: 6.40\n"}))
	if d := cmp.Diff(hardware.TPM{Version: "1.2", Manufacturer: "IFX", Firmware: "6.40", Sources: hardware.Sources{Source}}, inv.TPM); d != "" || err != nil {
		t.Errorf("TPM 1.2 = %v (-want +got):\n%s", err, d)
	}
	inv, err = Read(t.Context(), plant(t, map[string]string{class + "/tpm_version_major": "2\n", class + "/pcr-sha256/0": "", class + "/pcr-sha1/0": ""}))
	if d := cmp.Diff(hardware.TPM{Version: "2.0", PCRBanks: []string{"sha1", "sha256"}, Sources: hardware.Sources{Source}}, inv.TPM); d != "" || err != nil {
		t.Errorf("TPM 2.0 without answers = %v (-want +got):\n%s", err, d)
	}
	if inv, err = Read(t.Context(), plant(t, nil)); err != nil || inv.TPM.Version != "" {
		t.Errorf("no TPM = %+v, %v", inv.TPM, err)
	}
}

// TestNotRoot: the device is there and not for us.
func TestNotRoot(t *testing.T) {
	var got hardware.TPM
	c := &chip{ctx: t.Context(), root: "/", open: func() (transport.TPMCloser, error) {
		return nil, &fs.PathError{Op: "open", Path: "/dev/tpmrm0", Err: fs.ErrPermission}
	}}
	if err := c.into(&got); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("into = %v; want permission denied", err)
	}
}

// FuzzAnswers gives every decoder what a chip might.
func FuzzAnswers(f *testing.F) {
	f.Add(tpm2.Marshal(tpm2.TPMSCapabilityData{Capability: tpm2.TPMCapTPMProperties, Data: tpm2.NewTPMUCapabilities(tpm2.TPMCapTPMProperties,
		&tpm2.TPMLTaggedTPMProperty{TPMProperty: []tpm2.TPMSTaggedProperty{{Property: tpm2.TPMPTManufacturer, Value: 0x49465800}, {Property: tpm2.TPMPTFirmwareVersion1, Value: 7<<16 | 85}}})}))
	f.Add(tpm2.Marshal(tpm2.TPMSCapabilityData{Capability: tpm2.TPMCapPCRs, Data: tpm2.NewTPMUCapabilities(tpm2.TPMCapPCRs,
		&tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: []byte{255, 255, 255}}}})}))
	f.Add([]byte{0x30, 0x82, 0x00, 0x01, 0x00, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		var tpm hardware.TPM
		if err := decodeProperties(b, &tpm); err == nil && len(b) > 0 && tpm.Firmware != "" && strings.Count(tpm.Firmware, ".") != 3 {
			t.Errorf("firmware %q", tpm.Firmware)
		}
		if banks, err := decodePCRs(b); err == nil && len(banks) > len(b) {
			t.Errorf("%d banks", len(banks))
		}
		if cert := certificate(b); cert != nil && !bytes.HasPrefix(b, cert) {
			t.Errorf("a certificate that is not in its index")
		}
	})
}
