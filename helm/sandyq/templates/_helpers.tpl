{{- define "sandyq.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name }}{{ end }}
{{- end }}

{{- define "sandyq.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sandyq.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "sandyq.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "sandyq.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "sandyq.name" .) }}
{{- end }}

{{- define "sandyq.tlsSecret" -}}
{{- if .Values.tls.certManager.enabled }}{{ include "sandyq.name" . }}-tls{{ else }}{{ .Values.tls.existingSecret }}{{ end }}
{{- end }}

{{- define "sandyq.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion }}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ $tag }}{{ end }}
{{- end }}

{{/* What must be said before anything is rendered: in production nothing is left to be found out by a pod that does not start. */}}
{{- define "sandyq.check" -}}
{{- $v := .Values }}
{{- $production := eq $v.mode "production" }}
{{- if gt (len (include "sandyq.name" .)) 23 }}
{{- fail "the release's name is too long: with it a pod's name, which names the replica in the mirror, has more than 40 characters" }}
{{- end }}
{{- if not $v.installation.name }}
{{- fail "installation.name is needed: it stands in every log's origin and never changes" }}
{{- end }}
{{- if not $v.clientAuthorities }}
{{- fail "clientAuthorities is empty: nobody could call" }}
{{- end }}
{{- if and (not $v.tls.existingSecret) (not $v.tls.certManager.enabled) }}
{{- fail "tls.existingSecret is needed: the secret (kubernetes.io/tls) with the server's certificate and key; or tls.certManager.enabled" }}
{{- end }}
{{- if and $v.tls.certManager.enabled (or (not $v.tls.certManager.issuerRef.name) (not $v.tls.certManager.dnsNames)) }}
{{- fail "tls.certManager needs issuerRef.name and dnsNames" }}
{{- end }}
{{- $credential := "" }}
{{- if eq $v.kms.kind "pkcs11" }}
{{- $credential = $v.kms.pkcs11.existingSecret }}
{{- else if eq $v.kms.kind "transit" }}
{{- $credential = $v.kms.transit.existingSecret }}
{{- else }}
{{- $credential = $v.kms.local.existingSecret }}
{{- end }}
{{- if not $credential }}
{{- fail (printf "kms.%s.existingSecret is needed: the secret by which the vault reaches its root key (docs/kms.md)" $v.kms.kind) }}
{{- end }}
{{- if and (eq $v.kms.kind "pkcs11") (or (not $v.kms.pkcs11.module) (not $v.kms.pkcs11.token)) }}
{{- fail "kms.pkcs11 needs module and token" }}
{{- end }}
{{- if and $v.telemetry.traces.endpoint (not $v.telemetry.traces.existingSecret) }}
{{- fail "telemetry.traces.existingSecret is needed with an endpoint: the secret with the roots of the collector's certificate (ca.pem)" }}
{{- end }}
{{- if and (eq $v.kms.kind "transit") (not $v.kms.transit.address) }}
{{- fail "kms.transit needs address" }}
{{- end }}
{{- if eq $v.database.kind "postgres" }}
{{- if not $v.database.postgres.url }}
{{- fail "database.postgres.url is needed" }}
{{- end }}
{{- else }}
{{- if or (gt (int $v.replicas) 1) $v.autoscaling.enabled }}
{{- fail "an SQLite database has one process: set replicas to 1 and autoscaling.enabled to false, or database.kind to postgres" }}
{{- end }}
{{- end }}
{{- if $production }}
{{- if not $v.region.values }}
{{- fail "region.values is needed in production: personal data of Kazakhstan's citizens is stored in Kazakhstan, and pods must run on nodes there" }}
{{- end }}
{{- if and (eq $v.kms.kind "local") (ne $v.database.kind "sqlite") }}
{{- fail "kms.kind local is for one process: name pkcs11 or transit" }}
{{- end }}
{{- if not $v.mirror.existingClaim }}
{{- fail "mirror.existingClaim is needed in production: the second copy of every log" }}
{{- end }}
{{- if not $v.networkPolicy.enabled }}
{{- fail "networkPolicy.enabled must be true in production" }}
{{- end }}
{{- if and (eq $v.database.kind "postgres") (not $v.networkPolicy.database) }}
{{- fail "networkPolicy.database is needed in production: everything that is not declared is denied, the database too" }}
{{- end }}
{{- if and (eq $v.kms.kind "transit") (not $v.networkPolicy.kms) }}
{{- fail "networkPolicy.kms is needed in production with kms.kind transit: everything that is not declared is denied" }}
{{- end }}
{{- if and $v.telemetry.traces.endpoint (not $v.networkPolicy.collector) }}
{{- fail "networkPolicy.collector is needed in production with telemetry.traces: everything that is not declared is denied" }}
{{- end }}
{{- if not $v.residency.sites }}
{{- fail "residency.sites is needed in production: where the nodes, the database and the KMS are" }}
{{- end }}
{{- if and (eq $v.database.kind "postgres") (lt (int $v.replicas) 2) (not $v.autoscaling.enabled) }}
{{- fail "replicas must be at least 2 in production over PostgreSQL" }}
{{- end }}
{{- end }}
{{- end }}

{{/* sandyq.toml */}}
{{- define "sandyq.config" -}}
{{- $v := .Values }}
accept_risks = {{ $v.acceptRisks | toJson }}

[installation]
name = {{ $v.installation.name | toJson }}

[server]
listen = "{{ if eq $v.health.ipFamily "IPv6" }}[::]{{ else }}0.0.0.0{{ end }}:7443"
certificate = "/etc/sandyq/tls/tls.crt"
key = "/etc/sandyq/tls/tls.key"
{{- if $v.blockList.configMap }}
block_list = "/etc/sandyq/block-list/blocked.txt"
{{- end }}
lame_duck_seconds = {{ $v.shutdown.lameDuckSeconds }}
drain_seconds = {{ $v.shutdown.drainSeconds }}
{{ range $v.clientAuthorities }}
[[client_authority]]
trust_domain = {{ .trustDomain | toJson }}
certificates = "/etc/sandyq/authorities/{{ .trustDomain }}.pem"
staff = {{ .staff | default false }}
{{ end }}
[database]
{{- if eq $v.database.kind "postgres" }}
postgres = {{ $v.database.postgres.url | toJson }}
{{- if $v.database.postgres.existingSecret }}
password_file = "/etc/sandyq/database/password"
{{- end }}
connections = {{ $v.database.postgres.connections }}
{{- else }}
sqlite = "/var/lib/sandyq/sandyq.db"
{{- end }}

[root_key]
kind = {{ $v.kms.kind | toJson }}
{{- if eq $v.kms.kind "pkcs11" }}
module = {{ $v.kms.pkcs11.module | toJson }}
token = {{ $v.kms.pkcs11.token | toJson }}
label = {{ $v.kms.pkcs11.label | toJson }}
pin_file = "/etc/sandyq/kms/pin"
{{- else if eq $v.kms.kind "transit" }}
address = {{ $v.kms.transit.address | toJson }}
authority = "/etc/sandyq/kms/ca.pem"
mount = {{ $v.kms.transit.mount | toJson }}
key = {{ $v.kms.transit.key | toJson }}
{{- if $v.kms.transit.kubernetesRole }}
kubernetes_role = {{ $v.kms.transit.kubernetesRole | toJson }}
{{- else }}
token_file = "/etc/sandyq/kms/token"
{{- end }}
{{- else }}
file = "/etc/sandyq/kms/root.json"
unseal_key = "/etc/sandyq/kms/unseal.key"
{{- end }}
{{- if $v.mirror.existingClaim }}

[mirror]
directory = "/mirror/sandyq"
{{- if eq $v.database.kind "postgres" }}
shared = true
replica = "{{ include "sandyq.name" . }}"
{{- end }}
{{- end }}
{{- if $v.documents.existingClaim }}

[documents]
directory = "/documents/sandyq"
memory_mib = {{ $v.documents.memoryMiB }}
{{- end }}
{{- if $v.backup.existingClaim }}

[backup]
directory = "/backup/sandyq"
horizon_days = {{ $v.backup.horizonDays }}
{{- end }}

[limits]
calls_at_once = {{ $v.limits.callsAtOnce }}
calls_per_second = {{ $v.limits.callsPerSecond }}

[erasure]
cooling_minutes = {{ $v.erasure.coolingMinutes }}

{{- with $v.telemetry.traces }}
{{- if .endpoint }}
[telemetry.traces]
endpoint = {{ .endpoint | toJson }}
authority = "/etc/sandyq/collector/ca.pem"
ratio = {{ .ratio | float64 | toJson }}
queue_calls = {{ .queueCalls | int64 }}

{{ end }}
{{- end }}
[residency]
country = {{ $v.residency.country | toJson }}
check_seconds = {{ $v.residency.checkSeconds }}
stop_writes = {{ $v.residency.stopWrites }}
{{- range $v.residency.sites }}

[[residency.site]]
name = {{ .name | toJson }}
{{- with .country }}
country = {{ . | toJson }}
{{- end }}
networks = {{ .networks | default list | toJson }}
here = {{ .here | default false }}
{{- range .attested }}

[[residency.site.attested]]
networks = {{ .networks | default list | toJson }}
mounts = {{ .mounts | default list | toJson }}
archives = {{ .archives | default list | toJson }}
by = {{ .by | toJson }}
until = {{ .until | toJson }}
statement = {{ .statement | toJson }}
{{- end }}
{{- end }}

[governance]
mode = {{ $v.governance.mode | toJson }}
proposal_hours = {{ $v.governance.proposalHours }}

[staff]
hardware_keys = {{ $v.staff.hardwareKeys | toJson }}
absent_up_to_subjects = {{ $v.staff.absentUpToSubjects | int64 }}
{{- if $v.staff.attestationRoots.configMap }}
attestation_roots = "/etc/sandyq/attestation/roots.pem"
{{- end }}
{{ range $v.officers }}
[[officer]]
handle = {{ .handle | toJson }}
spiffe_id = {{ .spiffeId | toJson }}
roles = {{ .roles | toJson }}
{{ end }}
{{- end }}

{{- define "sandyq.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "sandyq.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Nodes in the declared region, and nowhere else. */}}
{{- define "sandyq.affinity" -}}
{{- if .Values.region.values }}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions:
          - key: {{ .Values.region.key }}
            operator: In
            values: {{ .Values.region.values | toJson }}
{{- end }}
{{- end }}

{{- define "sandyq.env" -}}
- name: SANDYQ_LOG
  value: {{ .Values.log | quote }}
{{- with .Values.kms.pkcs11.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sandyq.mounts" -}}
{{- $v := .Values }}
- name: config
  mountPath: /etc/sandyq/sandyq.toml
  subPath: sandyq.toml
  readOnly: true
- name: tls
  mountPath: /etc/sandyq/tls
  readOnly: true
- name: authorities
  mountPath: /etc/sandyq/authorities
  readOnly: true
{{- if $v.blockList.configMap }}
- name: block-list
  mountPath: /etc/sandyq/block-list
  readOnly: true
{{- end }}
{{- if $v.staff.attestationRoots.configMap }}
- name: attestation
  mountPath: /etc/sandyq/attestation
  readOnly: true
{{- end }}
{{- if and (eq $v.database.kind "postgres") $v.database.postgres.existingSecret }}
- name: database
  mountPath: /etc/sandyq/database
  readOnly: true
{{- end }}
{{- if eq $v.database.kind "sqlite" }}
- name: data
  mountPath: /var/lib/sandyq
{{- end }}
- name: kms
  mountPath: /etc/sandyq/kms
  readOnly: true
{{- if $v.telemetry.traces.endpoint }}
- name: collector
  mountPath: /etc/sandyq/collector
  readOnly: true
{{- end }}
{{- if and (eq $v.kms.kind "pkcs11") $v.kms.pkcs11.volume }}
- name: pkcs11
  mountPath: {{ $v.kms.pkcs11.mountPath }}
  readOnly: true
{{- end }}
{{- if $v.mirror.existingClaim }}
- name: mirror
  mountPath: /mirror
{{- end }}
{{- if $v.documents.existingClaim }}
- name: documents
  mountPath: /documents
{{- end }}
{{- if $v.backup.existingClaim }}
- name: backup
  mountPath: /backup
{{- end }}
- name: tmp
  mountPath: /tmp
{{- end }}

{{- define "sandyq.volumes" -}}
{{- $v := .Values }}
- name: config
  configMap:
    name: {{ include "sandyq.name" . }}
- name: tls
  secret:
    secretName: {{ include "sandyq.tlsSecret" . }}
    defaultMode: 0440
- name: authorities
  projected:
    sources:
      {{- range $v.clientAuthorities }}
      - configMap:
          name: {{ .configMap }}
          items:
            - key: {{ .key | default "ca.pem" }}
              path: {{ .trustDomain }}.pem
      {{- end }}
{{- if $v.blockList.configMap }}
- name: block-list
  configMap:
    name: {{ $v.blockList.configMap }}
{{- end }}
{{- if $v.staff.attestationRoots.configMap }}
- name: attestation
  configMap:
    name: {{ $v.staff.attestationRoots.configMap }}
    items:
      - key: {{ $v.staff.attestationRoots.key }}
        path: roots.pem
{{- end }}
{{- if and (eq $v.database.kind "postgres") $v.database.postgres.existingSecret }}
- name: database
  secret:
    secretName: {{ $v.database.postgres.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- if eq $v.database.kind "sqlite" }}
- name: data
  persistentVolumeClaim:
    claimName: {{ $v.database.sqlite.existingClaim | default (include "sandyq.name" .) }}
{{- end }}
- name: kms
  secret:
    secretName: {{ if eq $v.kms.kind "pkcs11" }}{{ $v.kms.pkcs11.existingSecret }}{{ else if eq $v.kms.kind "transit" }}{{ $v.kms.transit.existingSecret }}{{ else }}{{ $v.kms.local.existingSecret }}{{ end }}
    defaultMode: 0440
{{- if $v.telemetry.traces.endpoint }}
- name: collector
  secret:
    secretName: {{ $v.telemetry.traces.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- if and (eq $v.kms.kind "pkcs11") $v.kms.pkcs11.volume }}
- name: pkcs11
  {{- toYaml $v.kms.pkcs11.volume | nindent 2 }}
{{- end }}
{{- if $v.mirror.existingClaim }}
- name: mirror
  persistentVolumeClaim:
    claimName: {{ $v.mirror.existingClaim }}
{{- end }}
{{- if $v.documents.existingClaim }}
- name: documents
  persistentVolumeClaim:
    claimName: {{ $v.documents.existingClaim }}
{{- end }}
{{- if $v.backup.existingClaim }}
- name: backup
  persistentVolumeClaim:
    claimName: {{ $v.backup.existingClaim }}
{{- end }}
- name: tmp
  emptyDir:
    medium: Memory
    sizeLimit: 64Mi
{{- end }}

{{/* A container of the command that is not the server: `dict "root" $ "name" … "args" …` */}}
{{- define "sandyq.command" -}}
- name: {{ .name }}
  image: {{ include "sandyq.image" .root | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: {{ .args | toJson }}
  env:
    {{- include "sandyq.env" .root | nindent 4 }}
  securityContext:
    {{- include "sandyq.containerSecurity" .root | nindent 4 }}
  resources:
    requests: {cpu: 100m, memory: 128Mi}
    limits: {memory: 512Mi}
  volumeMounts:
    {{- include "sandyq.mounts" .root | nindent 4 }}
{{- end }}
