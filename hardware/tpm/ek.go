package tpm

import (
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/ingot-metal/ingot/hardware"
)

// Where makers put the certificates of endorsement keys (TCG EK Credential
// Profile 2.5, 2.2.1.4), and where many a system keeps the RSA key.
const (
	certificateRSA = tpm2.TPMHandle(0x01c00002)
	certificateECC = tpm2.TPMHandle(0x01c0000a)
	persistentRSA  = tpm2.TPMHandle(0x81010001)
)

// errNone says that the chip does not have what was asked for.
var errNone = errors.New("the TPM has none")

// endorsement takes the digests of certificate and key. They are of one kind,
// the same on every boot: ECC where there is a certificate for it or none at
// all, since an RSA key takes a chip seconds to make.
func (c *chip) endorsement(t *hardware.TPM) error {
	public := publicECC
	cert, err := c.ask("ek-certificate-ecc", func(t transport.TPM) ([]byte, error) { return readNV(t, certificateECC) })
	if err == nil && cert == nil {
		cert, err = c.ask("ek-certificate-rsa", func(t transport.TPM) ([]byte, error) { return readNV(t, certificateRSA) })
		if cert != nil {
			public = publicRSA
		}
	}
	if err != nil {
		return err
	}
	if cert = certificate(cert); cert != nil {
		t.EKCertificate = digest(cert)
	}
	b, err := c.ask("ek-public", public)
	if err != nil || b == nil {
		return err
	}
	t.EKPublic = digest(b)
	return nil
}

func digest(b []byte) hardware.Digest {
	sum := sha256.Sum256(b)
	return hardware.Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// certificate is the DER at the beginning of an NV index: makers fill the rest
// up. It is nil for what is none.
func certificate(b []byte) []byte {
	var raw asn1.RawValue
	if _, err := asn1.Unmarshal(b, &raw); err != nil || raw.Tag != asn1.TagSequence || !raw.IsCompound {
		return nil
	}
	return raw.FullBytes
}

// readNV reads an NV index, which anybody may who owns the chip.
func readNV(t transport.TPM, index tpm2.TPMHandle) ([]byte, error) {
	r, err := tpm2.NVReadPublic{NVIndex: index}.Execute(t)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, errNone
	}
	if err != nil {
		return nil, err
	}
	public, err := r.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	if !public.Attributes.Written || public.DataSize == 0 {
		return nil, errNone
	}
	if int(public.DataSize) > maxAnswer {
		return nil, fmt.Errorf("NV index 0x%08x has %d bytes, at most %d", uint32(index), public.DataSize, maxAnswer)
	}
	const chunk = 512 // every chip gives as much at once
	var out []byte
	for size := int(public.DataSize); len(out) < size; {
		r, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: index, Name: r.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: r.NVName},
			Size:       uint16(min(chunk, size-len(out))), Offset: uint16(len(out)),
		}.Execute(t)
		if err != nil {
			return nil, err
		}
		if len(r.Data.Buffer) == 0 {
			return nil, fmt.Errorf("NV index 0x%08x ends after %d of %d bytes", uint32(index), len(out), size)
		}
		out = append(out, r.Data.Buffer...)
	}
	return out, nil
}

// publicECC and publicRSA are the public area (TPMT_PUBLIC) of the key that
// the reference templates make of the chip's seed (the profile's B.3.3, B.3.4).
func publicECC(t transport.TPM) ([]byte, error) { return primary(t, tpm2.ECCEKTemplate) }

func publicRSA(t transport.TPM) ([]byte, error) {
	r, err := tpm2.ReadPublic{ObjectHandle: persistentRSA}.Execute(t)
	if err == nil {
		return r.OutPublic.Bytes(), nil
	}
	return primary(t, tpm2.RSAEKTemplate)
}

func primary(t transport.TPM, template tpm2.TPMTPublic) ([]byte, error) {
	r, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template)}.Execute(t)
	if err != nil {
		return nil, err
	}
	if _, err := (tpm2.FlushContext{FlushHandle: r.ObjectHandle}).Execute(t); err != nil {
		return nil, fmt.Errorf("flush the endorsement key: %w", err)
	}
	return r.OutPublic.Bytes(), nil
}
