package testserver

import "encoding/xml"

// xmlDeclaration stands before every answer; alone it is Nebraska's answer to
// what it cannot parse.
const xmlDeclaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

// The requests of Omaha ServerProtocolV3 with Nebraska's attributes. Unknown
// elements and attributes are ignored; a number that is none makes the whole
// request malformed, as in Nebraska.
type (
	xmlRequest struct {
		XMLName       xml.Name        `xml:"request"`
		Version       string          `xml:"version,attr"`
		UserID        string          `xml:"userid,attr"`
		SessionID     string          `xml:"sessionid,attr"`
		RequestID     string          `xml:"requestid,attr"`
		InstallSource string          `xml:"installsource,attr"`
		IsMachine     int             `xml:"ismachine,attr"`
		OS            xmlOS           `xml:"os"`
		Apps          []xmlAppRequest `xml:"app"`
	}
	xmlOS struct {
		Platform string `xml:"platform,attr"`
		Arch     string `xml:"arch,attr"`
	}
	xmlAppRequest struct {
		ID              string            `xml:"appid,attr"`
		Version         string            `xml:"version,attr"`
		Track           string            `xml:"track,attr"`
		Board           string            `xml:"board,attr"`
		BootID          string            `xml:"bootid,attr"`
		MachineID       string            `xml:"machineid,attr"`
		MachineAlias    string            `xml:"machinealias,attr"`
		MultiManifestOK bool              `xml:"multi_manifest_ok,attr"`
		Ping            *xmlPingRequest   `xml:"ping"`
		UpdateCheck     *struct{}         `xml:"updatecheck"`
		Events          []xmlEventRequest `xml:"event"`
	}
	xmlPingRequest struct {
		Active int `xml:"active,attr"`
	}
	xmlEventRequest struct {
		Type            int    `xml:"eventtype,attr"`
		Result          int    `xml:"eventresult,attr"`
		ErrorCode       int    `xml:"errorcode,attr"`
		PreviousVersion string `xml:"previousversion,attr"`
		NextVersion     string `xml:"nextversion,attr"`
	}
)

// The answers, with attributes and elements in the order of the recorded ones.
type (
	xmlResponse struct {
		XMLName  xml.Name          `xml:"response"`
		Protocol string            `xml:"protocol,attr"`
		Server   string            `xml:"server,attr"`
		DayStart xmlDayStart       `xml:"daystart"`
		Apps     []*xmlAppResponse `xml:"app"`
	}
	xmlDayStart struct {
		ElapsedSeconds int `xml:"elapsed_seconds,attr"`
	}
	xmlAppResponse struct {
		ID          string          `xml:"appid,attr"`
		Status      string          `xml:"status,attr"`
		Ping        *xmlStatus      `xml:"ping"`
		UpdateCheck *xmlUpdateCheck `xml:"updatecheck"`
		Events      []xmlStatus     `xml:"event"`
	}
	xmlStatus struct {
		Status string `xml:"status,attr"`
	}
	xmlUpdateCheck struct {
		Status    string         `xml:"status,attr"`
		URLs      xmlURLs        `xml:"urls"` // always there, if only empty
		Manifests []*xmlManifest `xml:"manifest"`
	}
	xmlURLs struct {
		URLs []xmlURL `xml:"url"`
	}
	xmlURL struct {
		Codebase string `xml:"codebase,attr"`
	}
	xmlManifest struct {
		Version     string      `xml:"version,attr"`
		IsFloor     bool        `xml:"is_floor,attr,omitempty"`
		FloorReason string      `xml:"floor_reason,attr,omitempty"`
		IsTarget    bool        `xml:"is_target,attr,omitempty"`
		Packages    xmlPackages `xml:"packages"`
		Actions     xmlActions  `xml:"actions"`
	}
	xmlPackages struct {
		Packages []xmlPackage `xml:"package"`
	}
	xmlPackage struct {
		Name     string       `xml:"name,attr"`
		SHA1     string       `xml:"hash,attr,omitempty"`
		SHA256   string       `xml:"hash_sha256,attr,omitempty"`
		Size     int64        `xml:"size,attr"`
		Required bool         `xml:"required,attr"`
		Metadata *xmlMetadata `xml:"metadata"`
	}
	xmlMetadata struct {
		ContentType string `xml:"content-type,attr,omitempty"`
		Text        string `xml:",cdata"`
	}
	xmlActions struct {
		Actions []xmlAction `xml:"action"`
	}
	xmlAction struct {
		Event                 string `xml:"event,attr"`
		DisplayVersion        string `xml:"DisplayVersion,attr,omitempty"`
		SHA256                string `xml:"sha256,attr,omitempty"`
		DisablePayloadBackoff bool   `xml:"DisablePayloadBackoff,attr,omitempty"`
		MaxFailureCountPerURL uint   `xml:"MaxFailureCountPerUrl,attr,omitempty"`
		Deadline              string `xml:"deadline,attr,omitempty"`
	}
)

// ok returns the only status that Nebraska has for pings and events.
func ok() xmlStatus { return xmlStatus{Status: "ok"} }

// encode writes the answer as it goes over the wire.
func (r *xmlResponse) encode() ([]byte, error) {
	body, err := xml.Marshal(r)
	if err != nil {
		return nil, err
	}
	return append([]byte(xmlDeclaration), body...), nil
}
