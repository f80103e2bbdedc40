# Removes VPN connections from the phone books of all users and of each user. Exit code: 0 done, 1 failed.
# A phone book is a text of sections; a section is a connection, and Type=2 means a VPN.
param([string] $Name = '', [string] $All = '0')
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
if ($Name -eq '' -and $All -ne '1') { throw 'neither Name nor All is given' }
$names = @($Name -split ';;' | Where-Object { $_ -ne '' })

$books = @(Join-Path $env:ProgramData 'Microsoft\Network\Connections\Pbk\rasphone.pbk')
$profiles = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList'
foreach ($key in @(Get-ChildItem -LiteralPath $profiles)) {
    $path = [string] $key.GetValue('ProfileImagePath')
    if ($path -ne '') { $books += Join-Path $path 'AppData\Roaming\Microsoft\Network\Connections\Pbk\rasphone.pbk' }
}
foreach ($book in $books) {
    if (-not (Test-Path -LiteralPath $book -PathType Leaf)) { continue }
    $kept = New-Object System.Collections.ArrayList
    $section = New-Object System.Collections.ArrayList
    $removed = 0
    foreach ($line in @(Get-Content -LiteralPath $book -Encoding UTF8) + @('[')) {
        if ($line.StartsWith('[')) {
            $title = ''
            # From the first bracket to the last: a name may hold brackets itself.
            if ($section.Count -gt 0 -and $section[0] -match '^\[(.*)\]') { $title = $Matches[1] }
            $isVpn = @($section | Where-Object { $_ -eq 'Type=2' }).Count -gt 0
            if ($title -ne '' -and $isVpn -and (($All -eq '1') -or ($names -ccontains $title))) {
                Write-Output "removed $title from $book"
                $removed++
            } else {
                foreach ($old in $section) { [void] $kept.Add($old) }
            }
            $section.Clear()
            if ($line -eq '[') { break }
        }
        [void] $section.Add($line)
    }
    if ($removed -gt 0) {
        $text = ''
        if ($kept.Count -gt 0) { $text = ($kept.ToArray() -join "`r`n") + "`r`n" }
        [System.IO.File]::WriteAllText($book, $text, (New-Object System.Text.UTF8Encoding $false))
    }
}
exit 0
