# What PowerShell runs first, by -EncodedCommand: it reads {"mark", "script", "parameters"} as JSON (ASCII, one line)
# from standard input. Each text in the parameters begins with = so that no version takes it for a date.
# Lines that begin with # are left out.
function ConvertFrom-Exeunt($v) {
if ($v -is [string]) { return $v.Substring(1) }
if ($v -is [Collections.IList]) { $l = @(); foreach ($i in $v) { $l += ,(ConvertFrom-Exeunt $i) }; return ,$l }
if ($v -is [Management.Automation.PSCustomObject]) { $h = @{}; foreach ($p in $v.PSObject.Properties) { $h[$p.Name] = ConvertFrom-Exeunt $p.Value }; return $h }
return $v
}
$ProgressPreference = 'SilentlyContinue'
[Console]::OutputEncoding = New-Object Text.UTF8Encoding $false
$OutputEncoding = [Console]::OutputEncoding
$exeunt = ($input | Out-String) | ConvertFrom-Json
$parameters = ConvertFrom-Exeunt $exeunt.parameters
if ($exeunt.mark) { [Console]::Error.WriteLine("$($exeunt.mark) $PID") }
$global:LASTEXITCODE = 0
& ([scriptblock]::Create($exeunt.script)) @parameters
exit $LASTEXITCODE
